package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/history"
)

// script is a history that is written down step by step; each step takes one tick.
type script struct {
	*history.Recorder
	*history.Evidence
	time int64
}

const name = "lock"

func newScript() *script {
	s := &script{}
	now := func() int64 { s.time++; return s.time }
	s.Recorder, s.Evidence = history.NewRecorder("c", now), history.NewEvidence(now, name)
	return s
}

// took is an acquisition by a session, with the revision of its key and its token.
func (s *script) took(session string, entry, token int64, how ...history.How) *history.Hold {
	h := s.Acquire(name, session, how...)
	h.Returned(nil, entry, token)
	return h
}

// put and gone are what a watch tells of a session's key.
func (s *script) put(session string, entry int64) { s.Put(name+"/"+session, entry) }
func (s *script) gone(session string, rev int64)  { s.Delete(name+"/"+session, rev, false) }

func (s *script) read(leader int64) { s.Reading(name)(nil, leader) }

var (
	reader = history.How{Shared: true}
	errAny = errors.New("no answer")
)

func weight(n int64) history.How { return history.How{Weight: n} }

// TestLegalHistories are what good locks do.
func TestLegalHistories(t *testing.T) {
	for what, test := range map[string]struct {
		model history.Model
		play  func(s *script)
	}{
		"one after the other": {history.Mutex, func(s *script) {
			s.took("a", 2, 2).Released(nil)
			s.took("b", 3, 4).Released(nil)
		}},
		"handed over in memory with one token": {history.Mutex, func(s *script) {
			s.took("a", 2, 2).Released(nil)
			s.took("a", 2, 2).Released(nil)
			s.took("b", 3, 4).Released(nil)
		}},
		"granted while the release is still under way": {history.Mutex, func(s *script) {
			a := s.took("a", 2, 2)
			a.Over()
			b := s.took("b", 3, 4)
			a.Released(nil)
			b.Released(nil)
		}},
		"what failed holds nothing": {history.Mutex, func(s *script) {
			a := s.took("a", 2, 2)
			s.Acquire(name, "b").Returned(errAny, 0, 0)
			a.Released(nil)
			s.took("b", 3, 4).Released(nil)
		}},
		"a release of unknown outcome, closed by the watch": {history.Mutex, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			a.Released(errAny)
			b := s.Acquire(name, "b")
			s.gone("a", 4)
			b.Returned(nil, 3, 4)
			b.Released(nil)
		}},
		"an administrator took the key away, and its holder heard of it later": {history.Mutex, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			s.Delete(name+"/a", 4, true)
			b := s.took("b", 3, 4)
			a.Released(errAny)
			b.Released(nil)
		}},
		"and he handed it over in memory before he heard of it": {history.Mutex, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			s.Delete(name+"/a", 4, true)
			b := s.took("b", 3, 4)
			a.Released(nil)
			again := s.took("a", 2, 2)
			b.Released(nil)
			again.Released(errAny)
		}},
		"readers beside each other, and a writer alone": {history.Shared, func(s *script) {
			a, b := s.took("a", 2, 2, reader), s.took("b", 3, 3, reader)
			b.Released(nil)
			a.Released(nil)
			s.took("c", 4, 5).Released(nil)
			s.took("a", 6, 6, reader).Released(nil)
		}},
		"a reader of one session, in line before another, is heard later": {history.Shared, func(s *script) {
			b, a := s.took("b", 3, 3, reader), s.took("a", 2, 2, reader)
			a.Released(nil)
			b.Released(nil)
		}},
		"a writer becomes a reader, another reader comes in, and it becomes a writer again": {history.Shared, func(s *script) {
			a := s.took("a", 2, 2)
			a.Converting(true)(nil, 2)
			b := s.took("b", 3, 3, reader)
			up := a.Converting(false)
			b.Released(nil)
			up(nil, 4)
			a.Released(nil)
		}},
		"weights up to the limit": {history.Semaphore(3), func(s *script) {
			a, b := s.took("a", 2, 2, weight(2)), s.took("b", 3, 3, weight(1))
			a.Released(nil)
			c, d := s.took("c", 4, 5), s.took("d", 5, 5)
			for _, h := range []*history.Hold{b, c, d} {
				h.Released(nil)
			}
		}},
		"a limit that is lowered puts nobody out": {history.Semaphore(2), func(s *script) {
			a, b := s.took("a", 2, 2), s.took("b", 3, 3)
			s.Resizing(name, 1)(nil)
			a.Released(nil)
			b.Released(nil)
			s.took("c", 4, 4).Released(nil)
		}},
		"who leads is told, and that nobody does": {history.Election, func(s *script) {
			s.read(0)
			a := s.Acquire(name, "a")
			s.put("a", 2)
			s.read(2)
			a.Returned(nil, 2, 2)
			s.put("b", 3)
			s.read(2)
			a.Over()
			s.gone("a", 4)
			s.read(3)
			a.Released(nil)
			s.took("b", 3, 4).Released(errAny)
			s.gone("b", 5)
			s.read(0)
		}},
		"who leads is told before the watch tells it": {history.Election, func(s *script) {
			s.Lag = 4 // ticks
			a := s.Acquire(name, "a")
			a.Returned(nil, 2, 2)
			s.read(2)
			s.put("a", 2)
			a.Over()
			s.read(0)
			s.gone("a", 3)
			a.Released(nil)
		}},
		"a candidate that gave up has led for a moment": {history.Election, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			b := s.Acquire(name, "b")
			s.put("b", 3)
			a.Over()
			s.gone("a", 4)
			b.Returned(errAny, 0, 0)
			s.read(3)
			s.gone("b", 5)
			a.Released(nil)
		}},
	} {
		t.Run(what, func(t *testing.T) {
			s := newScript()
			test.play(s)
			require.NoError(t, history.Check(test.model, s.Ops(), s.Evidence))
		})
	}
}

// TestBrokenHistoriesAreCaught has one of each kind.
func TestBrokenHistoriesAreCaught(t *testing.T) {
	for what, test := range map[string]struct {
		model history.Model
		play  func(s *script)
		want  error
	}{
		"two holders": {history.Mutex, func(s *script) {
			a, b := s.took("a", 2, 2), s.took("b", 3, 4)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"two holders of one session": {history.Mutex, func(s *script) {
			a, b := s.took("a", 2, 2), s.took("a", 2, 2)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"a holder that is told too late": {history.Mutex, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			s.gone("a", 4) // by its lease
			b := s.took("b", 3, 4)
			a.Released(errAny)
			b.Released(nil)
		}, history.ErrIllegal},
		"a token that another session has used": {history.Mutex, func(s *script) {
			s.took("a", 2, 2).Released(nil)
			s.took("b", 3, 2).Released(nil)
		}, history.ErrIllegal},
		"a token that shrinks": {history.Mutex, func(s *script) {
			s.took("a", 3, 3).Released(nil)
			s.took("b", 2, 2).Released(nil)
		}, history.ErrIllegal},
		"a token that is used again after another session's": {history.Mutex, func(s *script) {
			s.took("a", 2, 2).Released(nil)
			s.took("b", 3, 4).Released(nil)
			s.took("a", 2, 2).Released(nil)
		}, history.ErrIllegal},
		"a writer beside a reader": {history.Shared, func(s *script) {
			a, b := s.took("a", 2, 2, reader), s.took("b", 3, 3)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"a reader beside a writer": {history.Shared, func(s *script) {
			a, b := s.took("a", 2, 2), s.took("b", 3, 3, reader)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"a reader's token that a writer has used": {history.Shared, func(s *script) {
			s.took("a", 2, 2).Released(nil)
			s.took("b", 3, 2, reader).Released(nil)
		}, history.ErrIllegal},
		"a reader that becomes a writer beside another reader": {history.Shared, func(s *script) {
			a, b := s.took("a", 2, 2, reader), s.took("b", 3, 3, reader)
			a.Converting(false)(nil, 4)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"somebody gets between when a writer becomes a reader": {history.Shared, func(s *script) {
			a := s.took("a", 2, 2)
			down := a.Converting(true)
			s.took("b", 3, 3).Released(nil)
			down(nil, 2)
			a.Released(nil)
		}, history.ErrIllegal},
		"more weight than the limit": {history.Semaphore(3), func(s *script) {
			a, b := s.took("a", 2, 2, weight(2)), s.took("b", 3, 3, weight(2))
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"one holder more than the limit": {history.Semaphore(2), func(s *script) {
			for i := range int64(3) {
				defer s.took("a", 2+i, 2+i).Released(nil)
			}
		}, history.ErrIllegal},
		"one holder more than the lowered limit": {history.Semaphore(2), func(s *script) {
			s.Resizing(name, 1)(nil)
			a, b := s.took("a", 2, 2), s.took("b", 3, 3)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"a semaphore's token that shrinks": {history.Semaphore(2), func(s *script) {
			s.took("a", 3, 3).Released(nil)
			s.took("b", 2, 2).Released(nil)
		}, history.ErrIllegal},
		"a leader that has gone is told": {history.Election, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			a.Over()
			s.gone("a", 3)
			a.Released(nil)
			s.read(2)
		}, history.ErrIllegal},
		"nobody is told while somebody leads": {history.Election, func(s *script) {
			s.put("a", 2)
			s.read(0)
			s.gone("a", 3)
		}, history.ErrIllegal},
		"who waits is told to lead": {history.Election, func(s *script) {
			s.put("a", 2)
			s.put("b", 3)
			s.read(3)
			s.gone("a", 4)
			s.gone("b", 5)
		}, history.ErrIllegal},
		"two leaders": {history.Election, func(s *script) {
			s.put("a", 2)
			s.put("b", 3)
			a, b := s.took("a", 2, 2), s.took("b", 3, 4)
			a.Over()
			s.gone("a", 4)
			b.Over()
			s.gone("b", 5)
			a.Released(nil)
			b.Released(nil)
		}, history.ErrIllegal},
		"a leader whose key is gone": {history.Election, func(s *script) {
			s.put("a", 2)
			a := s.took("a", 2, 2)
			s.gone("a", 3)
			s.read(0)
			a.Released(errAny)
		}, history.ErrIllegal},
		"a grant without a proof": {history.Election, func(s *script) {
			s.put("a", 2)
			s.gone("a", 3)
			s.read(0)
			s.took("a", 2, 2).Released(nil)
		}, history.ErrIllegal},
		"a grant after an administrator took the key away": {history.Election, func(s *script) {
			s.put("a", 2)
			s.put("b", 3)
			s.Delete(name+"/b", 4, true)
			s.gone("a", 5)
			s.took("b", 3, 5).Released(errAny)
		}, history.ErrIllegal},
		"a release of unknown outcome that nothing closes": {history.Mutex, func(s *script) {
			s.took("a", 2, 2).Released(errAny)
		}, nil},
		"a hold without an end": {history.Mutex, func(s *script) { s.took("a", 2, 2) }, nil},
	} {
		t.Run(what, func(t *testing.T) {
			s := newScript()
			test.play(s)
			err := history.Check(test.model, s.Ops(), s.Evidence)
			require.Error(t, err)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
			t.Log(err)
		})
	}
}

// A name is checked by itself: what is exclusive on one may go on beside another.
func TestNamesAreCheckedByThemselves(t *testing.T) {
	s := newScript()
	a, b := s.Acquire("a", "a"), s.Acquire("b", "b")
	a.Returned(nil, 2, 2)
	b.Returned(nil, 2, 2)
	a.Released(nil)
	b.Released(nil)
	require.NoError(t, history.Check(history.Mutex, s.Ops(), nil))
}

// A process that is killed in the middle of a line leaves a history that can still be checked.
func TestAKilledProcessLeavesAHistory(t *testing.T) {
	s := newScript()
	var file bytes.Buffer
	s.To(&file)
	s.took("a", 2, 2).Released(nil)
	s.put("a", 3)
	s.took("a", 3, 3)
	file.WriteString(`{"id":7,"cli`)

	ops, err := history.ReadOps(&file)
	require.NoError(t, err)
	require.Equal(t, s.Ops(), ops)
	require.ErrorContains(t, history.Check(history.Mutex, ops, s.Evidence), "nobody told the end")

	ops = history.Died(ops, "c", s.time)
	s.gone("a", 4)
	require.NoError(t, history.Check(history.Mutex, ops, s.Evidence))
	// And a hold that had ended before is not ended twice.
	require.Equal(t, ops, history.Died(ops, "c", s.time))
}

// Ten thousand operations are checked in far less than a second, also when many releases were not answered.
func TestLongHistoriesAreChecked(t *testing.T) {
	s := newScript()
	for i := range int64(2_500) {
		session := fmt.Sprint(i % 3)
		s.put(session, 2*i+2)
		h := s.took(session, 2*i+2, 2*i+2)
		if i%3 == 0 {
			h.Released(errAny)
		} else {
			h.Released(nil)
		}
		s.read(2*i + 2)
		s.gone(session, 2*i+3)
		s.read(0)
	}
	start := time.Now()
	require.NoError(t, history.Check(history.Election, s.Ops(), s.Evidence))
	t.Logf("%d operations in %v", len(s.Ops()), time.Since(start))
}
