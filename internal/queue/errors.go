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
	// ErrUnmarked is the error of Enter if etcd refuses the inbox of a marked entry. Then the entry is to be
	// unmarked, because no message can reach it.
	ErrUnmarked = errors.New("no permission for the inbox")
)
