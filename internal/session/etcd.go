package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/perclient"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// Etcd is the way from a session to etcd. Its fields do not change.
type Etcd struct {
	Client   *clientv3.Client
	Log      *zap.Logger
	KV       clientv3.KV    // sends every request to the store, see etcdkv.KV
	Leases   clientv3.Lease // grants, revokes and asks, see etcdkv.Lease
	Writer   *etcdkv.Writer // sends every write
	Queues   *queue.Queues  // makes the queues of names
	Timeline *timeline.Tracker

	streams *perclient.Streams // of renewals and watches, which the sessions of the client share
}

// newEtcd makes the way to etcd of a session. life ends with the session. spawn starts a goroutine
// of the session. The caller leaves the streams.
func newEtcd(life context.Context, cfg *Config, spawn func(func()) bool) Etcd {
	e := Etcd{Client: cfg.Client, Log: cfg.Log, streams: newStreams(cfg)}
	if e.Log == nil {
		e.Log = zap.NewNop()
		if l := cfg.Client.GetLogger(); l != nil {
			e.Log = l.Named("etcdlock")
		}
	}
	e.KV, e.Timeline = timeline.Of(etcdkv.KV(cfg.Client))
	e.Leases = e.Timeline.Leases(etcdkv.Lease(cfg.Client))
	direct := etcdkv.Transactor(cfg.Hooks.Direct)
	if direct == nil {
		direct = etcdkv.Direct(cfg.Client)
	}
	e.Writer = etcdkv.NewWriter(etcdkv.WriterConfig{
		Life: life, KV: e.KV, Direct: e.Timeline.Transactor(direct), Slots: cfg.Hooks.Slots, Spawn: spawn, Pace: cfg.Hooks.Pace,
	})
	e.Queues = queue.NewQueues(queue.Config{
		Life: life, KV: e.KV, Writer: e.Writer, Watcher: e.streams.Watcher, Log: e.Log,
		ShortQueue: cfg.Hooks.ShortQueue, Prefetch: cfg.Hooks.Prefetch, Crowd: cfg.Hooks.Crowd,
	})
	return e
}

// newStreams joins the streams of the client. A Lease or Watcher that another package has put in the
// place of that of clientv3 is called itself. A namespace concerns watches, but not leases.
func newStreams(cfg *Config) *perclient.Streams {
	var on any // nil where a test opens the streams
	leases, watches := cfg.Hooks.Renewals, cfg.Hooks.Watches
	conn := cfg.Client.ActiveConnection()
	if conn != nil && leases == nil && watches == nil {
		on = conn
	}
	if leases == nil && etcdkv.PlainLease(cfg.Client) {
		leases = clientv3.RetryLeaseClient(cfg.Client)
	}
	if watches == nil && etcdkv.PlainWatcher(cfg.Client) {
		watches = pb.NewWatchClient(conn)
	}
	return perclient.Join(on, leases, watches, cfg.Client)
}

// Insist sends a request until etcd gives an answer that counts. Each try has a bound of its own,
// and the next try may go to another member. A member that hangs with its connections open answers
// nothing, and the request would hang as long as this member does. The request must be one that can
// be sent twice.
//
// Insist ends with ctx, and then returns the error of ctx with the error of the last try. It also
// ends with the client.
func (e *Etcd) Insist(ctx context.Context, try func(context.Context) error) error {
	policy := etcdkv.Policy{
		First: 50 * time.Millisecond, Longest: time.Second, Seed: backoff.Process,
		Bound: etcdkv.WithBound, Client: e.Client,
	}
	var last error
	_, err := etcdkv.Retry(ctx, policy, func(ctx context.Context) error {
		last = try(ctx)
		return last
	})
	switch {
	case last == nil || answer.Final(last):
		return last
	case ctx.Err() == nil:
		return err
	default:
		return fmt.Errorf("%w; the last attempt: %w", lockerr.OfContext(ctx), unanswered(last))
	}
}

// insistAloud is Insist for the start of a session. It logs once, after a second, that the session
// waits for etcd, and why.
func (e *Etcd) insistAloud(ctx context.Context, try func(context.Context) error) error {
	began, told := time.Now(), false
	return e.Insist(ctx, func(ctx context.Context) error {
		err := try(ctx)
		if err != nil && !answer.Final(err) && !told && time.Since(began) >= etcdkv.FirstBound {
			told = true
			e.Log.Warn("etcd has not answered yet; the session waits for it",
				zap.Strings("endpoints", e.Client.Endpoints()), zap.NamedError("reason", unanswered(err)))
		}
		return err
	})
}

// unanswered is the error of a try that got no answer. If etcd was reached and said nothing, only
// the bound of the try has ended it.
func unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errSilent
	}
	return err
}

var errSilent = errors.New("no answer, as from a member that hangs or is cut off")

// reconnect makes gRPC try to connect now. After a long outage gRPC would otherwise wait for up to
// two minutes, because its own backoff grows so far and the client of etcd leaves it at that.
func (e *Etcd) reconnect() {
	if conn := e.Client.ActiveConnection(); conn != nil {
		conn.ResetConnectBackoff()
	}
}
