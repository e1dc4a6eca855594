package simetcd

import (
	"container/heap"
	"time"
)

// An event is one thing that happens at one instant of virtual time.
type event struct {
	at    int64 // nanoseconds since the schedule's start
	index int   // place in the heap, -1 when it is in it no more
	run   func()
}

// A schedule is the queue of everything that is still to happen: messages that arrive, leases that expire, watch ticks.
//
// No two events share an instant: of several timers of one instant the runtime picks at random, and a run could not be
// repeated from its seed. So an event that would meet another is put off by a nanosecond.
//
// The schedule has no lock of its own; it lives under its server's.
type schedule struct {
	start time.Time
	queue eventQueue
	taken map[int64]struct{}
	timer *time.Timer // one for all events: it is set to the earliest
	set   int64       // the instant that timer is set to
	done  int         // counts the events that have happened
	wake  func()
}

func newSchedule(wake func()) *schedule {
	return &schedule{start: time.Now(), taken: make(map[int64]struct{}), wake: wake}
}

func (q *schedule) now() int64 { return int64(time.Since(q.start)) }

// at makes run happen at instant t, or at the first free instant after it that lies in the future.
func (q *schedule) at(t int64, run func()) *event {
	t = max(t, q.now()+1)
	for {
		if _, ok := q.taken[t]; !ok {
			break
		}
		t++
	}
	q.taken[t] = struct{}{}
	ev := &event{at: t, run: run}
	heap.Push(&q.queue, ev)
	q.arm()
	return ev
}

// cancel takes an event out; nil and events that have happened are fine.
func (q *schedule) cancel(ev *event) {
	if ev == nil || ev.index < 0 {
		return
	}
	heap.Remove(&q.queue, ev.index)
	delete(q.taken, ev.at)
}

// due returns the next event if its instant has come, or nil.
func (q *schedule) due() *event {
	if len(q.queue) == 0 || q.queue[0].at > q.now() {
		return nil
	}
	ev := heap.Pop(&q.queue).(*event)
	delete(q.taken, ev.at)
	q.done++
	return ev
}

// arm sets the timer to the earliest event. A timer that rings too early finds nothing due and arms itself again, so
// cancel need not come here.
func (q *schedule) arm() {
	if len(q.queue) == 0 {
		return
	}
	first := q.queue[0].at
	switch {
	case q.timer == nil:
		q.timer = time.AfterFunc(time.Duration(first-q.now()), q.wake)
	case q.set == 0 || first < q.set:
		q.timer.Reset(time.Duration(first - q.now()))
	default:
		return
	}
	q.set = first
}

// rang is called when the timer has rung and what was due is done.
func (q *schedule) rang() {
	q.set = 0
	q.arm()
}

// stop forgets everything.
func (q *schedule) stop() {
	if q.timer != nil {
		q.timer.Stop()
	}
	for _, ev := range q.queue {
		ev.index = -1
	}
	q.queue = nil
	clear(q.taken)
}

type eventQueue []*event

func (q eventQueue) Len() int           { return len(q) }
func (q eventQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q eventQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *eventQueue) Push(x any) {
	ev := x.(*event)
	ev.index = len(*q)
	*q = append(*q, ev)
}

func (q *eventQueue) Pop() any {
	old := *q
	ev := old[len(old)-1]
	old[len(old)-1] = nil
	ev.index = -1
	*q = old[:len(old)-1]
	return ev
}
