package main

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// verdict is what the checker says about a history.
type verdict string

const (
	sound   verdict = "ok"
	broken  verdict = "broken"
	unknown verdict = "unknown" // it took too long: as bad as broken
)

// op is an operation on a lock as the model has it.
type op struct {
	release bool
	weight  int
	token   int64
	client  string
}

// lockState is the weight of those who hold, and the largest tokens: of all holds, and of
// those that excluded all others.
type lockState struct {
	used      int
	all, sole fence
}

// fence is a token, and to whom it was given.
type fence struct {
	token  int64
	client string
}

// admits tells whether a token may follow. The fence stands between processes: what one
// of them held twice in a row may have one token.
func (f fence) admits(o op) bool {
	return o.token > f.token || o.token == f.token && o.client == f.client
}

func (f fence) raised(o op) fence {
	if o.token > f.token {
		return fence{o.token, o.client}
	}
	return f
}

// model is the fenced lock: nobody is granted beyond the capacity; the token of one who
// excludes all others is larger than all before it, and smaller than all after it.
func model(capacity int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return lockState{} },
		Step: func(state, input, _ any) (bool, any) {
			s, o := state.(lockState), input.(op)
			if o.release {
				s.used -= o.weight
				return s.used >= 0, s
			}
			sole := o.weight == capacity
			if s.used+o.weight > capacity || !s.sole.admits(o) || sole && !s.all.admits(o) {
				return false, s
			}
			s.used, s.all = s.used+o.weight, s.all.raised(o)
			if sole {
				s.sole = s.sole.raised(o)
			}
			return true, s
		},
	}
}

// check has porcupine search an order of the operations on one name that the model
// allows. A release takes effect between the holder's last moment of belief and what
// proves that the key is gone: etcd's answer to the release or the watch. So no
// operation is open for ever; only a key that is still there leaves it open.
//
// An acquire that failed, or that its process did not live to tell of, is left out with
// its release: whatever it did in etcd, nobody ever believed to hold, and an order
// without the pair is allowed if one with it is.
func check(holds []*holding, capacity int) verdict {
	var ops []porcupine.Operation
	for i, h := range holds {
		gone := instant(math.MaxInt64)
		for _, proof := range []instant{h.Freed, h.Gone} {
			if proof != 0 {
				gone = min(gone, max(proof, h.To))
			}
		}
		ops = append(ops,
			porcupine.Operation{ClientId: 2 * i, Input: op{false, h.Weight, h.Token, h.Client}, Call: int64(h.Call), Return: int64(h.From)},
			porcupine.Operation{ClientId: 2*i + 1, Input: op{true, h.Weight, h.Token, h.Client}, Call: int64(h.To), Return: int64(gone)})
	}
	switch porcupine.CheckOperationsTimeout(model(capacity), ops, 30*time.Second) {
	case porcupine.Ok:
		return sound
	case porcupine.Illegal:
		return broken
	default:
		return unknown
	}
}
