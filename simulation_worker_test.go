package etcdlock

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/etcdlock/etcdlock/internal/history"
)

// worker is one goroutine of a process: it locks, tries, campaigns and reads the leader.
type worker struct {
	*simulation
	party        party
	session, who string
	record       *history.Recorder
	rand         *rand.Rand
}

// briskRounds are so many that faults come meanwhile.
const briskRounds = 100

func (w *worker) work() {
	// Short and long slices, kept keys and strict turns, side by side on one name.
	r := w.rand
	terms := []MutexOption{
		WithTimeSlice(time.Duration(r.IntN(3)) * simTTL),
		// A little less, because chance orders two timers that fire at one instant.
		WithRetention(time.Duration(r.IntN(3)) * (simTTL/2 - 1234567*time.Nanosecond)),
	}
	rounds, rest, hold := simRounds, simTTL/3, 2*simTTL
	if w.brisk {
		rounds, rest, hold = briskRounds, 10*time.Millisecond, 20*time.Millisecond
	}
	for range rounds {
		w.sleep(rest)
		ctx, cancel := context.WithTimeout(w.ctx, time.Duration(r.Int64N(int64(4*simTTL))))
		name, what := simNames[r.IntN(3)*r.IntN(2)], r.IntN(12) // the first one more often
		if w.crowd {
			name, what, terms = simNames[0], 6+r.IntN(6), nil
		}
		if w.brisk {
			what, terms = 6+r.IntN(60), []MutexOption{WithTimeSlice(time.Duration(w.seed%2) * 10 * time.Millisecond)}
		}
		switch what {
		case 0, 1:
			w.claim(name, hold, func() (claimed, error) { return w.party.tryLock(ctx, name, terms...) })
		case 2, 3, 4:
			w.claim("e", hold, func() (claimed, error) { return w.party.campaign(ctx, "e", w.who) })
		case 5, 6:
			returned := w.record.Reading("e")
			leader, err := w.party.leader(ctx, "e")
			returned(err, leader)
			w.settle()
			w.note("%s asks who leads: %d, %v", w.who, leader, err)
		default:
			w.claim(name, hold, func() (claimed, error) { return w.party.lock(ctx, name, terms...) })
		}
		cancel()
	}
}

// claim acquires, holds for a while, at most as long as given, and releases.
func (w *worker) claim(name string, most time.Duration, acquire func() (claimed, error)) {
	asked := w.record.Acquire(name, w.session)
	h, err := acquire()
	if err != nil {
		asked.Returned(err, 0, 0)
		w.settle()
		w.note("%s does not get %s: %v", w.who, name, err)
		return
	}
	asked.Returned(nil, h.entry(), h.Token())
	returned := w.now()
	w.settle()
	if h.Err() != nil { // it was lost meanwhile, as in a machine that fell asleep (schedule 10144)
		asked.OverAt(returned)
	}
	w.granted(name, w.who, h)

	hold := time.NewTimer(time.Duration(w.rand.Int64N(int64(most))))
	defer hold.Stop()
	select {
	case <-h.Done():
		asked.Over()
		w.settle()
		w.over(h)
	case <-hold.C:
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(w.rand.Int64N(int64(simTTL))))
	defer cancel()
	if w.rand.IntN(2) == 0 {
		_ = h.proclaim(ctx, w.who+" again")
	}
	w.releasing(h)
	asked.Over()
	err = h.release(ctx)
	asked.Released(err)
	w.settle()
	w.note("%s has released %s: %v", w.who, name, err)
}

func (w *worker) sleep(most time.Duration) { time.Sleep(time.Duration(w.rand.Int64N(int64(most)))) }

// settle lets workers that were woken at one instant go on one after the other.
func (w *worker) settle() { w.sleep(100 * time.Microsecond) }
