package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// The Holder is a program of its own: this test binary, started again with
// holderEnv set. It takes a lock or leads an election, tells about it in lines of
// JSON on its standard output, and goes on until its standard input ends.

// holderEnv holds the settings, as JSON.
const holderEnv = "ETCDLOCK_TEST_HOLDER"

type HolderSettings struct {
	Endpoints []string
	Lock      string // one of these
	Read      string
	Permits   string // two of three
	Election  string
	TTL       time.Duration
	Delay     time.Duration // lock-delay
	Resource  string        // key written under the hold's guard after the hold was lost
	Crossing  []string      // instead: lock random sets of these, and report each that was held
	Detect    bool          // crash detection
	LeaseFile string
	Deaf      time.Duration // the stop timeout of work that never stops; by Run
}

// Report is one line of the holder.
type Report struct {
	Event   string // held, lost, released, failed
	At      time.Time
	Token   int64
	Key     string
	Error   string
	Expired bool // the error matches ErrLost and ErrExpired
	Refused bool // the late write was refused

	Names []string // of a set that was held, from Since to At
	Since time.Time
}

func holderMain() int {
	out := json.NewEncoder(os.Stdout)
	if err := hold(out); err != nil {
		_ = out.Encode(Report{Event: "failed", At: time.Now(), Error: err.Error()})
		return 1
	}
	return 0
}

func hold(out *json.Encoder) error {
	var set HolderSettings
	if err := json.Unmarshal([]byte(os.Getenv(holderEnv)), &set); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: set.Endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Long)
	defer cancel()
	opts := []etcdlock.SessionOption{etcdlock.WithTTL(set.TTL), etcdlock.WithLockDelay(set.Delay)}
	if set.Detect {
		opts = append(opts, etcdlock.WithCrashDetection("127.0.0.1:0"))
	}
	if set.LeaseFile != "" {
		opts = append(opts, etcdlock.WithLeaseFile(set.LeaseFile))
	}
	s, err := etcdlock.NewSession(ctx, client, opts...)
	if err != nil {
		return err
	}
	switch {
	case len(set.Crossing) > 0:
		return cross(ctx, s, set.Crossing, out)
	case set.Deaf > 0:
		return leadForEver(ctx, s, set, out)
	}
	var held interface {
		etcdlock.Held
		Key() string
		Guard() clientv3.Cmp
	}
	switch {
	case set.Lock != "":
		l, err := etcdlock.NewMutex(s, set.Lock).Lock(ctx)
		if err != nil {
			return err
		}
		held = l
	case set.Read != "":
		l, err := etcdlock.NewRWMutex(s, set.Read).RLock(ctx)
		if err != nil {
			return err
		}
		held = l
	case set.Permits != "":
		p, err := etcdlock.NewSemaphore(s, set.Permits, 3).Acquire(ctx, 2)
		if err != nil {
			return err
		}
		held = p
	default:
		term, err := etcdlock.NewElection(s, set.Election).Campaign(ctx, fmt.Sprint(os.Getpid()))
		if err != nil {
			return err
		}
		held = term
	}
	if err := out.Encode(Report{Event: "held", At: time.Now(), Token: held.Token(), Key: held.Key()}); err != nil {
		return err
	}

	stdin := make(chan struct{})
	go func() {
		defer close(stdin)
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
	}()
	select {
	case <-stdin:
	case <-held.Done():
		r := Report{Event: "lost", At: time.Now(), Token: held.Token(), Error: held.Err().Error()}
		r.Expired = errors.Is(held.Err(), etcdlock.ErrLost) && errors.Is(held.Err(), etcdlock.ErrExpired)
		// A process that does not know of its loss yet still writes.
		resp, err := client.Txn(ctx).If(held.Guard()).Then(clientv3.OpPut(set.Resource, "late")).Commit()
		r.Refused = err == nil && !resp.Succeeded
		if err := out.Encode(r); err != nil {
			return err
		}
		<-stdin
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	return out.Encode(Report{Event: "released", At: time.Now(), Token: held.Token()})
}

// CrossRounds is how many sets each process locks.
const CrossRounds = 12

// cross is the program of a process that locks random sets of names.
func cross(ctx context.Context, s *etcdlock.Session, names []string, out *json.Encoder) error {
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for range CrossRounds {
		some := make([]string, 0, len(names))
		for _, i := range r.Perm(len(names))[:1+r.IntN(len(names))] {
			some = append(some, names[i])
		}
		set, err := etcdlock.NewMultiMutex(s, some).Lock(ctx)
		if err != nil {
			return err
		}
		held := Report{Event: "set", Names: some, Token: set.Token(), Since: time.Now()}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		held.At = time.Now()
		if err := set.Unlock(ctx); err != nil {
			return err
		}
		if err := out.Encode(held); err != nil {
			return err
		}
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	return out.Encode(Report{Event: "through", At: time.Now()})
}

// leadForEver leads, with work that does not stop when it is told to: when standard input
// ends, or the term does. Its process is to end nevertheless.
func leadForEver(ctx context.Context, s *etcdlock.Session, set HolderSettings, out *json.Encoder) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
		cancel()
	}()
	return etcdlock.NewElection(s, set.Election).Run(ctx, fmt.Sprint(os.Getpid()), func(ctx context.Context, term *etcdlock.Term) error {
		_ = out.Encode(Report{Event: "held", At: time.Now(), Token: term.Token(), Key: term.Key()})
		<-ctx.Done()
		_ = out.Encode(Report{Event: "told", At: time.Now(), Token: term.Token(), Error: context.Cause(ctx).Error()})
		select {}
	}, etcdlock.WithStopTimeout(set.Deaf), etcdlock.WithExitWhenStuck(), etcdlock.WithOnStuck(func(stuck etcdlock.StuckTerm) {
		_ = out.Encode(Report{Event: "stuck", At: time.Now(), Token: stuck.Term.Token(), Error: stuck.Cause.Error()})
	}))
}

// environ is the environment of a holder: ours without what is meant for tests.
func (s HolderSettings) environ() ([]string, error) {
	set, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, holderEnv+"=") {
			env = append(env, v)
		}
	}
	return append(env, holderEnv+"="+string(set)), nil
}
