package etcdlock

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// FuzzForeignKeys lets two sessions lock, try and campaign under a name while keys and
// values come and go under it that are not theirs: with any suffix, deep in other names,
// with any value, with a lease or without, and even under their own keys. Whatever it
// is, nothing panics, nobody is granted past an older key, no two hold, and when the
// foreign keys are gone everybody can lock and leaves nothing behind.
//
// A script is a list of steps, a byte each: what is done, and to whom.
func FuzzForeignKeys(f *testing.F) {
	holder := []byte(`{"owner":"w","host":"h","pid":42,"since":"2026-11-21T12:00:00Z"}`)
	all := make([]byte, 3*fuzzSteps)
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

const fuzzSteps = 12

type fuzzing struct {
	*world
	name, suffix, value string

	pair    []*Session
	foreign map[string]bool // keys that somebody else has written
	evicted bool            // own keys were deleted: those who held are told, but not beforehand
	calls   sync.WaitGroup
	cancel  []context.CancelFunc

	mu   sync.Mutex
	held map[string]*Hold // by the session's client
}

func (z *fuzzing) step(what, which int) {
	own := wire.Key(z.name, z.pair[which%2].Lease())
	switch what {
	case 0: // a key of somebody else, whose lease lives
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
		z.call(what-4, time.Duration(which)*time.Second, func(ctx context.Context) (*Hold, error) {
			l, err := m.Lock(ctx)
			if err != nil {
				return nil, err
			}
			return l.Hold, nil
		})
	case 6:
		z.call(which%2, time.Second, func(ctx context.Context) (*Hold, error) {
			l, err := NewMutex(z.pair[which%2], z.name).TryLock(ctx)
			if err != nil {
				return nil, err
			}
			return l.Hold, nil
		})
	case 7:
		z.call(which%2, time.Duration(which)*time.Second, func(ctx context.Context) (*Hold, error) {
			t, err := NewElection(z.pair[which%2], z.name).Campaign(ctx, z.value)
			if err != nil {
				return nil, err
			}
			return t.Hold, nil
		})
	case 8: // who reads only
		entries, err := NewMutex(z.pair[which%2], z.name).Queue(z.ctx)
		require.NoError(z, err)
		for i, e := range entries {
			require.True(z, i == 0 || entries[i-1].CreateRevision < e.CreateRevision, "out of order: %v", entries)
		}
		if _, err := NewElection(z.pair[which%2], z.name).Leader(z.ctx); err != nil && !errors.Is(err, ErrNoLeader) {
			require.ErrorIs(z, err, ErrNestedName)
		}
	case 9: // a key of ours is written over
		lease := clientv3.LeaseID(clientv3.NoLease)
		if which%4 > 1 {
			lease = z.pair[which%2].Lease()
		}
		z.put(own, lease)
	case 10: // deep inside, and without a lease
		z.put(z.name+"/"+z.suffix+strings.Repeat("/x", which%5), clientv3.NoLease)
	case 11: // an administrator deletes a key of ours
		z.evicted = z.evicted || z.Get(own) != nil
		z.DeleteKey(own)
		delete(z.foreign, own)
	}
}

func (z *fuzzing) put(key string, lease clientv3.LeaseID) {
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
func (z *fuzzing) call(session int, patience time.Duration, acquire func(context.Context) (*Hold, error)) {
	ctx, cancel := context.WithTimeout(z.ctx, patience+10*time.Millisecond)
	z.cancel = append(z.cancel, cancel)
	z.calls.Go(func() {
		h, err := acquire(ctx)
		if err != nil {
			z.understood(err)
			return
		}
		z.granted(session, h)
		select {
		case <-time.After(300 * time.Millisecond):
		case <-h.Done():
		}
		z.releasing(session)
		_ = h.release(z.ctx)
	})
}

// understood checks that an error is one that callers are told of.
func (z *fuzzing) understood(err error) {
	for _, known := range []error{context.DeadlineExceeded, context.Canceled, ErrLocked, ErrNestedName, ErrLost} {
		if errors.Is(err, known) {
			return
		}
	}
	z.Errorf("an error that is none of those that are promised: %v", err)
}

// granted checks a grant: no older key stands, and nobody else holds.
func (z *fuzzing) granted(session int, h *Hold) {
	if h.Err() != nil {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	place := h.tenure.entry.CreateRevision
	for _, kv := range z.Keys(z.name + "/") {
		if kv.CreateRevision < place {
			z.Errorf("granted at %d past %q at %d", place, kv.Key, kv.CreateRevision)
		}
	}
	if z.held == nil {
		z.held = map[string]*Hold{}
	}
	for other, o := range z.held {
		if o.Err() == nil && !z.evicted {
			z.Errorf("%s holds while %s does", z.pair[session].cfg.owner, other)
		}
	}
	z.held[z.pair[session].cfg.owner] = h
}

func (z *fuzzing) releasing(session int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.held, z.pair[session].cfg.owner)
}

// end takes the foreign keys away. Then everybody gets his turn, and nothing is left.
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
