package etcdlock

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// FuzzForeignKeys lets two sessions lock, try, campaign, read and take permits under a name
// while keys and values come and go under it that are not theirs: with any suffix, deep in other names,
// with any value, with a lease or without, and even under their own keys. Whatever it
// is, nothing panics, no caller is granted past an older key that does not share with it, no
// two callers hold that exclude each other, and when the foreign keys are gone both sessions can lock
// and leave nothing behind.
//
// A script is a list of steps, a byte each: the action and its target.
func FuzzForeignKeys(f *testing.F) {
	holder := []byte(`{"owner":"w","host":"h","pid":42,"since":"2026-11-21T12:00:00Z"}`)
	all := make([]byte, 2*fuzzSteps)
	for i := range all {
		all[i] = byte(i)
	}
	f.Add("q", "1f", holder, []byte{0, 4, 5, 6, 7, 2, 8})
	f.Add("q", "stray", []byte("{"), []byte{0, 0, 4, 5, 14, 2, 2})
	f.Add("q", "", []byte(nil), []byte{4, 0, 5, 7, 2})
	f.Add("q", "/", []byte("host:80"), []byte{0, 4, 7, 8, 2, 4})
	f.Add("q", "b/1f", []byte("\xff\xfe"), []byte{4, 10, 1, 5, 7, 2})
	f.Add("orders/42", "694D8F2A", []byte(strings.Repeat(`{"owner":`, 300)), []byte{10, 4, 5, 2, 9, 8})
	f.Add("ä ö", "\xff\xff", []byte("null"), []byte{0, 10, 4, 15, 3, 3, 2, 9})
	f.Add("q", "0000000000000001", []byte("[]"), []byte{1, 4, 5, 3, 2, 2})
	f.Add("q", strings.Repeat("x/", 200), []byte{0}, []byte{0, 5, 4, 2})
	f.Add("/", "x", []byte{}, []byte{4})
	f.Add("q", "1.next", []byte(`{"next":"q/1","rev":2}`), []byte{0, 5, 7, 4, 10, 2, 7})
	f.Add("q", "1.1p9", []byte(`{"mode":"shared","permits":-1,"limit":9,"bound":1}`), []byte{0, 7, 4, 10, 3, 2})
	for i := range fuzzSharers {
		f.Add("q", "", holder, []byte{byte(i*fuzzSteps + 14), 12, 13, 12 + fuzzSteps, 13 + fuzzSteps, 0, 2})
	}
	f.Add("q", "x", []byte(strings.Repeat("v", 20000)), all)
	f.Fuzz(func(t *testing.T, name, suffix string, value []byte, script []byte) {
		if len(script) > 40 || len(name) > 1000 || len(suffix) > 5000 {
			t.Skip("longer ones find nothing that short ones do not")
		}
		simulate(t, func(w *world) {
			z := &fuzzing{world: w, name: name, suffix: suffix, value: string(value), foreign: map[string]bool{}}
			z.pair = []*Session{w.session("a"), w.session("b")}
			if wire.CheckName(name) != nil {
				_, err := NewMutex(z.pair[0], name).Lock(w.ctx)
				require.ErrorIs(t, err, ErrInvalidName)
				return
			}
			for _, step := range script {
				z.step(int(step)%fuzzSteps, int(step)/fuzzSteps)
				w.pass(time.Duration(step) * time.Millisecond)
			}
			z.end()
		})
	})
}

const (
	fuzzSteps = 15
	fuzzLimit = 3 // of the semaphore
)

type fuzzing struct {
	*world
	name, suffix, value string

	pair    []*Session
	foreign map[string]bool // keys of other clients
	evicted bool            // own keys were deleted: the holders learn of it afterwards
	calls   sync.WaitGroup
	cancel  []context.CancelFunc

	mu   sync.Mutex
	held []fuzzHold
}

type fuzzHold struct {
	hold
	want wire.Holder
}

func (z *fuzzing) step(what, which int) {
	own := wire.Key(z.name, z.pair[which%2].Lease())
	switch what {
	case 0: // a key of another client, with a live lease
		z.put(z.name+"/"+z.suffix, z.GrantLease(time.Hour))
	case 1: // one that runs out
		z.put(z.name+"/"+strconv.Itoa(which)+z.suffix, z.GrantLease(2*time.Second))
	case 2: // the foreign ones go
		z.clear()
	case 3: // many, so that it is a crowd
		lease := z.GrantLease(time.Hour)
		for i := range 5 + which*3 {
			z.put(z.name+"/"+strconv.FormatInt(int64(0x1000+i), 16), lease)
		}
	case 4, 5:
		m := NewMutex(z.pair[what-4], z.name, WithRetention(time.Duration(which%3)*time.Second))
		z.call(time.Duration(which)*time.Second, wire.Holder{}, func(ctx context.Context) (hold, error) {
			l, err := m.Lock(ctx)
			if err != nil {
				return hold{}, err
			}
			return l.hold, nil
		})
	case 6:
		z.call(time.Second, wire.Holder{}, func(ctx context.Context) (hold, error) {
			l, err := NewMutex(z.pair[which%2], z.name).TryLock(ctx)
			if err != nil {
				return hold{}, err
			}
			return l.hold, nil
		})
	case 7:
		z.call(time.Duration(which)*time.Second, wire.Holder{}, func(ctx context.Context) (hold, error) {
			t, err := NewElection(z.pair[which%2], z.name).Campaign(ctx, z.value)
			if err != nil {
				return hold{}, err
			}
			return t.hold, nil
		})
	case 8: // a reader
		entries, err := NewMutex(z.pair[which%2], z.name).Queue(z.ctx)
		require.NoError(z, err)
		for i, e := range entries {
			require.True(z, i == 0 || entries[i-1].CreateRevision < e.CreateRevision, "out of order: %v", entries)
		}
		if _, err := NewElection(z.pair[which%2], z.name).Leader(z.ctx); err != nil && !errors.Is(err, ErrNoLeader) {
			require.ErrorIs(z, err, ErrNestedName)
		}
	case 9: // a key of ours is written over
		var lease clientv3.LeaseID // none
		if which%4 > 1 {
			lease = z.pair[which%2].Lease()
		}
		z.put(own, lease)
	case 10: // deep inside, and without a lease
		z.put(z.name+"/"+z.suffix+strings.Repeat("/x", which%5), clientv3.NoLease)
	case 12:
		m := NewRWMutex(z.pair[which%2], z.name)
		z.call(time.Duration(which)*time.Second, wire.Holder{Mode: wire.Shared}, func(ctx context.Context) (hold, error) {
			l, err := m.RLock(ctx)
			if err != nil {
				return hold{}, err
			}
			return l.hold, nil
		})
	case 13:
		n := 1 + which%fuzzLimit
		m := NewSemaphore(z.pair[which%2], z.name, fuzzLimit)
		want := wire.Holder{Mode: wire.Counted, Permits: n, Limit: fuzzLimit}
		z.call(time.Duration(which)*time.Second, want, func(ctx context.Context) (hold, error) {
			p, err := m.Acquire(ctx, n)
			if err != nil {
				return hold{}, err
			}
			return p.hold, nil
		})
	case 14: // a client that shares, or claims to
		i := which % len(fuzzSharers)
		z.PutKey(z.name+"/2"+strconv.Itoa(i)+z.suffix, fuzzSharers[i], z.GrantLease(time.Hour))
		z.foreign[z.name+"/2"+strconv.Itoa(i)+z.suffix] = true
	case 11: // an administrator deletes a key of ours
		z.evicted = z.evicted || z.Get(own) != nil
		z.DeleteKey(own)
		delete(z.foreign, own)
	}
}

// fuzzSharers are values by which others say what they want to share.
var fuzzSharers = []string{
	`{"mode":"shared"}`,
	`{"mode":"counted","permits":1,"limit":3}`,
	`{"mode":"counted","permits":3,"limit":3}`,
	`{"mode":"counted","permits":9223372036854775807,"limit":3}`,
	`{"mode":"counted","permits":-9223372036854775808,"limit":3}`,
	`{"mode":"counted","permits":1,"limit":9223372036854775807}`,
	`{"mode":"counted","permits":1,"limit":9223372036854775807,"ordered":true}`,
	`{"mode":"upgrading","bound":1}`,
	`{"mode":"upgrading","bound":9223372036854775807}`,
	`{"mode":"upgrading","bound":-1}`,
	`{"mode":"Shared"}`,
	`{"mode":"shared","permits":"x"}`,
}

func (z *fuzzing) put(key string, lease clientv3.LeaseID) {
	z.evicted = z.evicted || z.Get(key) != nil && !z.foreign[key] // one of ours says something else now
	z.PutKey(key, z.value, lease)
	z.foreign[key] = true
}

func (z *fuzzing) clear() {
	for key := range z.foreign {
		for _, s := range z.pair {
			z.evicted = z.evicted || key == wire.Key(z.name, s.Lease())
		}
		z.DeleteKey(key)
	}
	clear(z.foreign)
}

// call is one acquisition, which is held for a while.
func (z *fuzzing) call(patience time.Duration, want wire.Holder, acquire func(context.Context) (hold, error)) {
	ctx, cancel := context.WithTimeout(z.ctx, patience+10*time.Millisecond)
	z.cancel = append(z.cancel, cancel)
	z.calls.Go(func() {
		h, err := acquire(ctx)
		if err != nil {
			z.understood(err)
			return
		}
		z.granted(fuzzHold{h, want})
		select {
		case <-time.After(300 * time.Millisecond):
		case <-h.Done():
		}
		z.releasing(h)
		_ = h.release(z.ctx)
	})
}

// understood checks that an error is one that callers are told of.
func (z *fuzzing) understood(err error) {
	for _, known := range []error{context.DeadlineExceeded, context.Canceled, ErrLocked, ErrNestedName, ErrLost, ErrLimitMismatch} {
		if errors.Is(err, known) {
			return
		}
	}
	z.Errorf("an error that is none of those that are promised: %v", err)
}

// granted checks a grant: there is no older key, and no other holder, that does not share with it.
func (z *fuzzing) granted(h fuzzHold) {
	if h.Err() != nil {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	permits := float64(h.want.Permits)
	for _, kv := range z.Keys(z.name + "/") {
		if kv.CreateRevision >= h.CreateRevision() {
			continue
		}
		theirs := wire.Wants(kv.Value)
		permits += float64(theirs.Permits)
		if !shares(h.want, theirs) {
			z.Errorf("%+v granted at %d past %q=%.200q at %d", h.want, h.CreateRevision(), kv.Key, kv.Value, kv.CreateRevision)
		}
	}
	if h.want.Mode == wire.Counted && permits > fuzzLimit && !z.evicted {
		z.Errorf("%g permits of %d", permits, fuzzLimit)
	}
	for _, o := range z.held {
		if o.Err() == nil && !z.evicted && !shares(h.want, o.want) {
			z.Errorf("%+v holds while %+v does", h.want, o.want)
		}
	}
	z.held = append(z.held, h)
}

// shares reports whether an entry may be granted beside an older one.
func shares(want, other wire.Holder) bool {
	switch want.Mode {
	case wire.Shared:
		return other.Mode == wire.Shared || other.Mode == wire.Upgrading
	case wire.Counted:
		return other.Mode == wire.Counted
	default:
		return false
	}
}

func (z *fuzzing) releasing(h hold) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.held = slices.DeleteFunc(z.held, func(o fuzzHold) bool { return o.hold == h })
}

// end deletes the foreign keys. Then each waiter is served, and nothing is left.
func (z *fuzzing) end() {
	z.pass(time.Second)
	z.clear()
	for _, s := range z.pair {
		ctx := z.timeout(2 * time.Minute)
		l, err := NewMutex(s, z.name).Lock(ctx)
		if err == nil {
			err = l.Unlock(z.ctx)
		}
		if errors.Is(err, ErrLost) || errors.Is(err, ErrNestedName) { // by what was there before
			l, err = NewMutex(s, z.name).Lock(ctx)
			require.NoError(z, err, "all foreign keys are gone")
			err = l.Unlock(z.ctx)
		}
		require.NoError(z, err, "all foreign keys are gone")
	}
	for _, cancel := range z.cancel {
		cancel()
	}
	z.calls.Wait()
	z.closeSessions()

	z.empty(z.name)
}
