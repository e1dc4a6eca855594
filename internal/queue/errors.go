package queue

import (
	"errors"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

var (
	// ErrOverwritten is the error of an entry whose key has another value, by another client.
	ErrOverwritten = fmt.Errorf("%w: its value was overwritten", lockerr.ErrEvicted)
	// ErrTaken is the error of TryEnter if other entries block ours.
	ErrTaken = errors.New("queue not empty")
)
