package queue

import (
	"errors"
	"fmt"
)

var (
	// ErrGone: somebody deleted our key while its lease lived on.
	ErrGone = errors.New("its key was deleted by somebody else")
	// ErrNested: two names in use, one inside the other.
	ErrNested = errors.New("nested names")
	// ErrOverwritten: somebody else has written our key, which says something else now.
	ErrOverwritten = fmt.Errorf("%w: it says something else now", ErrGone)
	// ErrTaken: TryEnter found somebody in the queue.
	ErrTaken = errors.New("queue not empty")
)
