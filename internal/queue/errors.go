package queue

import "errors"

var (
	// ErrGone: somebody deleted our key while its lease lived on.
	ErrGone = errors.New("its key was deleted by somebody else")
	// ErrNested: two names in use, one inside the other.
	ErrNested = errors.New("nested names")
	// ErrTaken: TryEnter found somebody in the queue.
	ErrTaken = errors.New("queue not empty")
)
