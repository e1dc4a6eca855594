package queue

import (
	"errors"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

var (
	// ErrOverwritten is the error of an entry when another client has changed the value of its key.
	ErrOverwritten = fmt.Errorf("%w: its value was overwritten", lockerr.ErrEvicted)
	// ErrTaken is the error of TryEnter if other entries block ours.
	ErrTaken = errors.New("queue not empty")
)
