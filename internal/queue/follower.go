package queue

import (
	"context"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// follower is a watch with the rules by which it is opened again and checked. A watch may end (trap
// A7), and it may fail to report a change (trap A21). So its user reads from time to time, and the
// follower says when. It has no goroutine: its user waits for its channel and its timer, by next or
// in a select of its own.
//
// The timer has one of three meanings:
//
//	handle is nil   a watch is opened
//	late is false   a reading is due
//	late is true    a reading showed a change, and the watch has reported nothing since
type follower struct {
	handle // of the watch; nil while there is none
	timer  alarm
	*times
	resume int64 // the revision from which the next watch starts; 0 for one on the future
	*lone

	seed   int32  // spreads the pauses between failures
	failed uint16 // watches in a row that were not opened, or ended before they reported anything
	slower uint8  // how often the pause before a reading was doubled
	late   bool
}

// lone is what a follower has whose user waits for its channels. It is nil if a keeper drives the follower.
type lone struct {
	*watch // nil while there is none
	// open opens the watch, from a revision on. The revision is 0 for a watch on the future.
	open   func(ctx context.Context, from int64) *watch
	c      <-chan time.Time  // of the timer
	until  time.Time         // until when a watch from resume on is tried
	events []*clientv3.Event // what was reported last
}

// report notes what was reported last.
func (l *lone) report(events []*clientv3.Event) {
	if l == nil {
		return
	}
	l.events = events
	if n := len(events); n > 0 {
		l.since = max(l.since, events[n-1].Kv.ModRevision)
	}
}

// alarm is the timer of a follower.
type alarm interface {
	Reset(d time.Duration) bool
	Stop() bool
}

// rules are the times of a follower.
type rules struct {
	*times
	seed int32 // spreads the pauses between failures
}

type times struct {
	first, longest time.Duration // between readings: first, then doubled up to longest
	patience       time.Duration // how long a watch may be late to report what a reading has shown
	resumes        bool          // true if a watch continues where the last one ended
}

const (
	// firstResync and waitResync are the pauses between the readings of a wait. A stream that hangs
	// costs a short wait little, and a long one does not read often.
	firstResync = time.Second
	waitResync  = 10 * time.Second
	// holdResync is the pause between the readings of a hold.
	holdResync = time.Minute

	// patience is how long a watch may be late. A member that lags reports within this time.
	patience = 300 * time.Millisecond
	// slowOpening is the time after which a watch on the past is followed by a reading. etcd may
	// have been restored from a backup meanwhile, and may have passed the revision without the key.
	slowOpening = 250 * time.Millisecond
)

var (
	waiting = rules{times: &times{first: waitResync, longest: waitResync, patience: patience}}
	shortly = rules{times: &times{first: firstResync, longest: waitResync, patience: patience}}
	holding = rules{times: &times{first: holdResync, longest: holdResync, patience: patience}}
)

// following are the rules of a follower that is to report each change. It waits longer for a watch
// that is late, because a reading that is taken too early jumps over changes.
var following = rules{times: &times{first: waitResync, longest: waitResync, patience: time.Second, resumes: true}}

// seeded returns the rules for a session with a lease. Sessions that lose etcd at one instant come
// back spread out.
func (r rules) seeded(lease clientv3.LeaseID) rules {
	r.seed = int32(lease)
	return r
}

// newFollower returns a follower that opens its watch after a delay.
func newFollower(r rules, delay time.Duration, open func(ctx context.Context, from int64) *watch) follower {
	t := time.NewTimer(delay)
	return follower{times: r.times, seed: r.seed, timer: t, lone: &lone{open: open, c: t.C}}
}

// startAt makes the next watch start at a revision. That is tried for a while, if no watch can be opened.
func (f *follower) startAt(rev int64, tried time.Duration) {
	f.resume, f.until = rev, time.Now().Add(tried)
}

// begin begins another wait, by other rules, with a watch that may be open already.
func (f *follower) begin(r rules) {
	f.times, f.seed, f.slower = r.times, r.seed, 0
	switch {
	case f.handle == nil:
		f.timer.Reset(0)
	case f.late:
		f.timer.Reset(f.patience)
	default:
		f.timer.Reset(f.pause())
	}
}

// pause is the time before the next reading.
func (f *follower) pause() time.Duration { return min(f.first<<f.slower, f.longest) }

// takes notes the watch that was opened; nil if there is none.
func (f *follower) takes(w *watch) {
	if f.handle = nil; w != nil {
		f.handle = w.handle
	}
	if f.lone != nil {
		f.watch = w
	}
}

// news is what a follower tells its user.
type news uint8

const (
	told   news = iota // the watch has reported events, or has ended
	opened             // a watch was opened, or could not be: what happened before is to be read
	due                // a reading is due, which checked takes note of
	silent             // the watch has reported nothing of what a reading has shown
	absent             // there is no watch, and one is to be opened; next does so, and tells what came of it
	woken              // wake was closed
)

// next blocks until there is news or ctx ends, and then returns its cause.
func (f *follower) next(ctx context.Context, wake <-chan struct{}) (news, error) {
	select {
	case resp, ok := <-f.ch():
		return f.heard(resp, ok), nil
	case <-f.c:
		return f.fired(ctx), nil
	case <-wake:
		return woken, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// ch is the channel of the watch. It is nil, and blocks, if there is no follower, or no watch.
func (f *follower) ch() clientv3.WatchChan {
	if f == nil {
		return nil
	}
	return f.watch.ch()
}

// heard takes in what the channel of the watch has delivered.
func (f *follower) heard(resp clientv3.WatchResponse, ok bool) news {
	if !ok || resp.Err() != nil {
		f.report(nil)
		f.ended()
		return told
	}
	f.report(resp.Events)
	f.failed = 0
	if f.late {
		f.late = false
		f.timer.Reset(f.pause())
	}
	return told
}

// ended closes a watch that has ended. It continues from its last event if it is to resume and etcd
// has not refused that, as it does after a compaction.
func (f *follower) ended() {
	f.resume = 0
	if f.resumes && !f.Cancelled() {
		f.startAt(max(0, f.since+1), waitResync) // since may be the largest number
	}
	f.stop()
	f.tryAgain()
}

// tryAgain sets the timer for another watch.
func (f *follower) tryAgain() {
	f.timer.Reset(etcdkv.Pause(int(f.failed), int64(f.seed)))
	if f.failed < math.MaxUint16 {
		f.failed++
	}
}

// fired does what the timer was set for.
func (f *follower) fired(ctx context.Context) news {
	what := f.expired()
	if what == absent {
		began := time.Now()
		what = f.opens(f.open(ctx, f.resume), began)
	}
	return what
}

// expired tells what the timer was set for: silent, due or absent.
func (f *follower) expired() news {
	f.report(nil)
	switch {
	case f.late:
		return silent
	case f.handle == nil:
		return absent
	default:
		f.failed = 0
		return due
	}
}

// opens takes in the watch that was to be opened, from resume on; nil if it could not be.
func (f *follower) opens(w *watch, began time.Time) news {
	from := f.resume
	if f.takes(w); w == nil {
		f.tryAgain()
		if from > 0 && f.lone != nil && began.Before(f.until) {
			return told
		}
		f.resume = 0
		return opened
	}
	f.resume, f.slower = 0, 0
	f.timer.Reset(f.pause())
	if from == 0 {
		return opened
	}
	w.since = from - 1 // it reports what came before its creation, too
	if w.doubtful || time.Since(began) > slowOpening {
		return due
	}
	return told
}

// checked takes note of a reading that was due. behind is true if it shows a change that the watch
// has not reported.
func (f *follower) checked(behind bool) {
	f.late = behind && f.handle != nil
	switch {
	case f.handle == nil: // the timer is set for another one
	case behind:
		f.timer.Reset(f.patience)
	default:
		if f.pause() < f.longest {
			f.slower++
		}
		f.timer.Reset(f.pause())
	}
}

// leave gives up a watch that does not report, and the stream that it is on. The next one takes
// another stream, which may lead to another member.
func (f *follower) leave() {
	f.MoveOn()
	f.drop()
}

// restart has another watch opened from a revision on, after a delay.
func (f *follower) restart(from int64, delay time.Duration) {
	f.stop()
	f.resume, f.failed = from, 0
	f.timer.Reset(delay)
}

// drop closes the watch, and has another one opened at once.
func (f *follower) drop() {
	f.stop()
	f.resume = 0
	f.timer.Reset(0)
}

// stop closes the watch.
func (f *follower) stop() {
	if f.handle != nil {
		f.Stop()
	}
	f.takes(nil)
	f.late = false
}

// close ends the follower. The stream of a watch that is late is given up with it: many waits end
// with the reading that shows this.
func (f *follower) close() {
	if f.late {
		f.MoveOn()
	}
	f.stop()
	f.timer.Stop()
}
