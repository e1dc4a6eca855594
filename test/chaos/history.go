package main

import (
	"errors"
	"fmt"
	"math"

	"github.com/etcdlock/etcdlock/internal/history"
)

// verdict is what the checker says about a history.
type verdict string

const (
	sound   verdict = "ok"
	broken  verdict = "broken"
	unknown verdict = "unknown" // it took too long: as bad as broken
)

// check has the model of the kind judge the holds of a group. A release takes effect
// between the holder's last moment of belief and what proves that the key is gone:
// etcd's answer to the release or the watch. So no operation stays open; only a key
// that is still there leaves it open. The error says where the history breaks.
//
// An acquire that failed, or that its process did not live to tell of, is left out with
// its release. Whatever it did in etcd, no client believed to hold, and an order without the pair is
// allowed if one with it is.
func check(k kind, holds []*holding, seen *history.Evidence) (verdict, error) {
	var ops []history.Op
	for i, h := range holds {
		gone := instant(math.MaxInt64)
		for _, proof := range []instant{h.Freed, h.Gone} {
			if proof != 0 {
				gone = min(gone, max(proof, h.To))
			}
		}
		// A client has one session at a time, and those have different keys: what it held
		// twice in a row may have one token.
		op := history.Op{
			Kind: history.Acquire, Outcome: history.OK, Client: h.Client, Session: h.Client, Name: h.Name, Hold: fmt.Sprintf("%s/%d", h.Client, i),
			Entry: h.Entry, Token: h.Token, Shared: h.Weight < k.capacity, Weight: int64(h.Weight),
			Call: int64(h.Call), Return: int64(h.From),
		}
		over := op
		over.Kind, over.Call, over.Return = history.Release, int64(h.To), int64(gone)
		ops = append(ops, op, over)
	}
	err := history.Check(k.model, ops, seen)
	switch {
	case err == nil:
		return sound, nil
	case errors.Is(err, history.ErrUndecided):
		return unknown, err
	default:
		return broken, err
	}
}
