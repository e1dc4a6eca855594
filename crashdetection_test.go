package etcdlock

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// fakeNet is a network in virtual time.
type fakeNet struct {
	mu        sync.Mutex
	listeners map[string]*fakeListener
	silent    map[string]bool                    // does not answer
	lasts     map[string]func(int) time.Duration // for how long the connections to an address last, by their number
	dialed    int
}

type fakeListener struct {
	net     *fakeNet
	address *net.TCPAddr
	conns   chan net.Conn
	closed  chan struct{}
	mu      sync.Mutex
	all     []net.Conn
}

func newFakeNet() *fakeNet {
	return &fakeNet{listeners: map[string]*fakeListener{}, silent: map[string]bool{}, lasts: map[string]func(int) time.Duration{}}
}

func (n *fakeNet) Listen(address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if n.listeners[a.String()] != nil {
		return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &fakeListener{net: n, address: a, conns: make(chan net.Conn, 10), closed: make(chan struct{})}
	n.listeners[a.String()] = l
	return l, nil
}

func (n *fakeNet) Dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l, silent, lasts := n.listeners[address], n.silent[address], n.lasts[address]
	n.dialed++
	number := n.dialed
	n.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	here, there := net.Pipe()
	if lasts != nil {
		time.AfterFunc(lasts(number), func() { _ = there.Close() })
		return here, nil
	}
	l.mu.Lock()
	l.all = append(l.all, there)
	l.mu.Unlock()
	l.conns <- there
	return here, nil
}

func (n *fakeNet) setSilent(address string, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent[address] = silent
}

func (n *fakeNet) listens(address string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listeners[address] != nil
}

// kill is what the kernel does when a process dies.
func (n *fakeNet) kill(address string) {
	n.mu.Lock()
	l := n.listeners[address]
	delete(n.listeners, address)
	n.mu.Unlock()
	l.breakAll()
}

// breakConns breaks the connections, and no more.
func (n *fakeNet) breakConns(address string) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	l.breakAll()
}

func (l *fakeListener) breakAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.all {
		_ = c.Close()
	}
	l.all = nil
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.address.String()] == l {
		delete(l.net.listeners, l.address.String())
	}
	l.net.mu.Unlock()
	close(l.closed)
	return nil
}

func (l *fakeListener) Addr() net.Addr { return l.address }

// detecting is a session with crash detection on a network.
func (w *world) detecting(n *fakeNet, client, address string, opts ...SessionOption) *Session {
	w.Helper()
	return w.session(client, append([]SessionOption{
		WithCrashDetection(address), sessionOptionFunc(func(c *sessionConfig) { c.net = n }),
	}, opts...)...)
}

// crash is what others see of kill -9: etcd hears nothing more, and the kernel closes.
func (w *world) crash(n *fakeNet, client, address string) {
	w.Client(client).Cut()
	n.kill(address)
}

func TestADeadLeaderIsReplacedAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		term := w.campaign(NewElection(a, "e"), "A")
		lock := w.lock(NewMutex(a, "other"))
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		after := w.candidate(NewElection(w.detecting(n, "c", "10.0.0.3:7400"), "e"), "C")
		w.pass(time.Minute)
		next.isWaiting()
		require.NoError(w, term.Err())

		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		leader := next.get()
		require.Less(w, next.at.Sub(died), 300*time.Millisecond)
		require.Nil(w, w.Get(lock.Key()), "all that it had is free")
		w.pass(time.Minute)
		after.isWaiting()

		died = time.Now()
		w.crash(n, "b", "10.0.0.2:7400")
		after.get()
		require.Less(w, after.at.Sub(died), 300*time.Millisecond)
		require.ErrorIs(w, term.Err(), ErrExpired, "by its own clock")
		_ = leader
	})
}

func TestTheNextOneInLineThatDiedWithTheLeaderIsPassedOverAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		w.campaign(NewElection(w.detecting(n, "a", "10.0.0.1:7400"), "e"), "A")
		w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		c := w.candidate(NewElection(w.detecting(n, "c", "10.0.0.3:7400"), "e"), "C")
		w.pass(time.Minute)
		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		w.crash(n, "b", "10.0.0.2:7400")
		c.get()
		require.Less(w, c.at.Sub(died), 500*time.Millisecond)
	})
}

// Only a refusal counts, and only where it means something.
func TestALeaderThatMayLiveIsLeftToItsTTL(t *testing.T) {
	const address = "10.0.0.1:7400"
	for name, c := range map[string]struct {
		address string
		happens func(w *world, n *fakeNet, a *Session)
	}{
		"it does not answer":    {address, func(_ *world, n *fakeNet, _ *Session) { n.setSilent(address, true); n.breakConns(address) }},
		"its connections break": {address, func(_ *world, n *fakeNet, _ *Session) { n.breakConns(address) }},
		"it says nothing of it": {"", func(*world, *fakeNet, *Session) {}},
		"another one's loopback": {"127.0.0.1:7400", func(w *world, n *fakeNet, a *Session) {
			w.PutKey(wire.LivenessKey(a.Lease()), `{"address":"127.0.0.1:7400","scope":"another machine"}`, a.Lease())
			w.pass(time.Second)
			n.kill("127.0.0.1:7400")
		}},
		"what it says cannot be read": {address, func(w *world, n *fakeNet, a *Session) {
			w.PutKey(wire.LivenessKey(a.Lease()), "{", a.Lease())
			n.kill(address)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				var a *Session
				if c.address == "" {
					a = w.session("a")
				} else {
					a = w.detecting(n, "a", c.address)
				}
				term := w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Minute)
				c.happens(w, n, a)
				w.pass(time.Minute)
				next.isWaiting()
				require.NoError(w, term.Err())
				require.Less(w, n.dialed, 120)
			})
		})
	}
}

func TestCrashDetectionIsOffUnlessBothSidesWantIt(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		w.pass(time.Minute)
		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		next.get()
		require.Greater(w, next.at.Sub(died), ttl/2)
		require.Empty(w, w.Keys(wire.LivenessPrefix))
	})
}

// A process that leaves its lease to a successor is not dead, and who takes over is the one that counts.
func TestALeaseThatIsLeftToASuccessorIsNotTakenForThatOfADeadProcess(t *testing.T) {
	for name, detects := range map[string]bool{"who detects crashes": true, "who does not": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				a := w.detecting(n, "a", "10.0.0.1:7400")
				term := w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Minute)
				id := w.orphan(a)
				w.pass(2 * time.Second)
				next.isWaiting()
				opts := []SessionOption{WithLease(id)}
				var again *Session
				if detects {
					again = w.detecting(n, "a2", "10.0.0.1:7401", opts...)
				} else {
					again = w.session("a2", opts...)
				}
				resumed := w.campaign(NewElection(again, "e"), "A")
				require.Equal(w, term.Key(), resumed.Key())
				w.pass(time.Minute)
				next.isWaiting()
				require.NoError(w, resumed.Err())
				if detects {
					died := time.Now()
					w.crash(n, "a2", "10.0.0.1:7401")
					next.get()
					require.Less(w, next.at.Sub(died), 300*time.Millisecond)
				}
			})
		})
	}
}

// putOfRecord is what a call writes to a liveness record; nil if it writes none.
func putOfRecord(c simetcd.Call) *wire.Liveness {
	req, ok := c.Req.(*pb.TxnRequest)
	if !ok {
		return nil
	}
	for _, op := range req.Success {
		if put := op.GetRequestPut(); put != nil && strings.HasPrefix(string(put.Key), wire.LivenessPrefix) {
			record := wire.ParseLiveness(put.Value)
			return &record
		}
	}
	return nil
}

// The successor of a process that was killed and the candidate that found it dead cannot both have the lease.
func TestALeaseIsEitherTakenOverOrRevokedAsThatOfADeadProcess(t *testing.T) {
	for name, address := range map[string]string{
		"the successor listens elsewhere":                           "10.0.0.1:7401",
		"the successor is as the former process was, to the letter": "10.0.0.1:7400", // as in a container that was started again
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				a := w.detecting(n, "a", "10.0.0.1:7400")
				w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Second)
				id, marks := a.Lease(), 0
				w.Intercept(func(c simetcd.Call) simetcd.Action {
					if record := putOfRecord(c); record != nil && record.Dead {
						marks++
						return simetcd.Action{DelayRequest: 500 * time.Millisecond}
					}
					return simetcd.Action{}
				})
				w.crash(n, "a", "10.0.0.1:7400")
				w.pass(100 * time.Millisecond)
				require.Equal(w, 1, marks, "the candidate has judged by the record of the former process")
				again := w.detecting(n, "a2", address, WithLease(id))
				w.pass(time.Minute)
				require.Equal(w, 1, marks)
				require.NoError(w, w.campaign(NewElection(again, "e"), "A").Err())
				next.isWaiting()
			})
		})
	}
	t.Run("the candidate is first", func(t *testing.T) {
		simulate(t, func(w *world) {
			n := newFakeNet()
			a := w.detecting(n, "a", "10.0.0.1:7400")
			w.campaign(NewElection(a, "e"), "A")
			next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
			w.pass(time.Second)
			id := a.Lease()
			w.next("b", simetcd.LeaseRevoke, simetcd.Action{DelayRequest: time.Second})
			w.crash(n, "a", "10.0.0.1:7400")
			w.pass(500 * time.Millisecond)
			require.Contains(w, w.Leases(), id, "it stands yet")
			c := w.Client("a2")
			_, err := NewSession(w.ctx, c.Client, WithLease(id), WithClock(bubbleClock()), renewOn(c))
			require.ErrorIs(w, err, ErrLeaseNotFound)
			next.get()
		})
	})
}

func TestAnOrphanThatFailsLeavesTheProcessToBeWatchedAsBefore(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Second)
		// A release that is not confirmed holds it up.
		lock := w.lock(NewMutex(a, "other"))
		w.every("a", simetcd.Action{DropRequest: true}, simetcd.Txn)
		require.ErrorIs(w, lock.Unlock(w.timeout(100*time.Millisecond)), context.DeadlineExceeded)
		w.pass(50 * time.Millisecond)
		w.Intercept(nil)
		_, err := a.Orphan(w.timeout(300 * time.Millisecond))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		w.pass(10 * time.Second)
		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		next.get()
		require.Less(w, next.at.Sub(died), 300*time.Millisecond)
	})
}

// The listener goes on while the work of a term may: a session that is closed is no dead process.
func TestAProcessIsNotTakenForDeadWhileItsWorkStops(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		var returned time.Time
		run := w.run(NewElection(a, "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			returned = time.Now()
			return nil
		}, WithStopTimeout(time.Minute))
		run.term()
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Minute)
		require.NoError(w, a.Close(w.ctx))
		next.get()
		require.False(w, next.at.Before(returned))
		_, err := run.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		n.mu.Lock()
		defer n.mu.Unlock()
		require.Len(w, n.listeners, 1, "that of the one who leads")
	})
}

func TestASessionThatDetectsCrashesLeavesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		w.RevokeLease(a.Lease()) // and it tells under the next one again
		w.pass(time.Minute)
		require.Len(w, w.Keys(wire.LivenessPrefix), 1)
		require.Equal(w, clientv3.LeaseID(w.Keys(wire.LivenessPrefix)[0].Lease), a.Lease())
		w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B").get()
		w.allGone()
		require.Empty(w, n.listeners)
	})
}

func TestCrashDetectionNeedsAnAddressThatOthersCanReach(t *testing.T) {
	simulate(t, func(w *world) {
		for _, address := range []string{"", "7400", ":7400", "0.0.0.0:7400", "[::]:7400"} {
			_, err := NewSession(w.ctx, w.Client("a").Client, WithCrashDetection(address))
			require.ErrorIs(w, err, ErrInvalidOption, address)
		}
		require.Empty(w, w.Leases())
	})
}

// report L9
func TestAnAddressWithoutBracketsIsRefusedWithWhatToDo(t *testing.T) {
	for address, says := range map[string]string{
		"fd00::5:7400": "brackets", "::1:7400": "brackets", "fd00::5": "brackets",
		":7400": "an address of this host", "0.0.0.0:7400": "an address of this host", "[::]:7400": "an address of this host", "10.0.0.5": "with a port",
	} {
		err := validateListenAddress(address)
		require.ErrorIs(t, err, ErrInvalidOption, address)
		require.ErrorContains(t, err, says, address)
	}
	require.NoError(t, validateListenAddress("[fd00::5]:7400"))
}
