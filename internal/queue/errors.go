package queue

import (
	"errors"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

var (
	// ErrOverwritten: somebody else has written our key, which says something else now.
	ErrOverwritten = fmt.Errorf("%w: it says something else now", lockerr.ErrEvicted)
	// ErrTaken: TryEnter found somebody in the queue.
	ErrTaken = errors.New("queue not empty")
)
