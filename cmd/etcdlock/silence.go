package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
)

const (
	// silenceLimit is how long a request may go without an answer. It leaves one tick until 2 s.
	silenceLimit = 1900 * time.Millisecond
	silenceTick  = 100 * time.Millisecond
	// probeAfter is the silence after which the endpoints are probed, so that the reasons are known
	// at the limit.
	probeAfter = time.Second
	probeBound = silenceLimit - probeAfter
	// beatAfter is how long a client is idle before it sends a request that only shows whether etcd
	// answers.
	beatAfter = time.Second
	beatBound = 5 * time.Second
)

// silence watches the requests of the clients of one command. If etcd does not answer, it prints a
// line on standard error, with the reason for each endpoint. It prints another line when etcd answers
// again.
//
// Its goroutine runs while there is a client.
type silence struct {
	out io.Writer

	mu      sync.Mutex
	probe   func(ctx context.Context) []string // returns a fault for each endpoint
	clients map[*clientv3.Client]bool          // the nil client is one that is being created
	end     context.CancelFunc                 // ends the goroutine
	counted time.Duration                      // value of clock at looked
	looked  time.Time                          // time of the last call of advance
	owed    map[*request]bool                  // requests without an answer
	lost    bool                               // true if a request ended without an answer, and none was answered since
	lostAt  time.Duration                      // when the first such request was sent
	refused error                              // why etcd refuses the credentials; nil if it does not
	heard   time.Duration                      // when the last answer came
	beaten  time.Duration                      // when the last beat was sent
	beating bool                               // true while a beat is under way
	probing bool                               // true while the endpoints are probed
}

// request is a unary request, or the last message on a stream.
type request struct {
	since time.Duration // when it was sent, or when it began if it was not sent yet
	beat  bool
	over  bool        // true after the stream has ended
	stop  func() bool // stops watching the context of a stream; nil for a unary request
}

type requestKey struct{} // a *request in a context
type beatKey struct{}    // set in the context of a beat

// options returns the options of a client, so that the silence watches its requests. probe is called while
// etcd is silent.
func (w *silence) options(probe func(context.Context) []string) []grpc.DialOption {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probe = probe
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(w.unary), grpc.WithChainStreamInterceptor(w.stream), grpc.WithStatsHandler(sent{w})}
}

// add watches a client until the returned function is called. A nil client is one that is being
// created.
func (w *silence) add(c *clientv3.Client) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.clients) == 0 {
		w.clients, w.owed = make(map[*clientv3.Client]bool), make(map[*request]bool)
		w.looked = time.Now()
		w.lost, w.refused, w.heard, w.beating = false, nil, w.counted, false
		ctx, cancel := context.WithCancel(context.Background())
		w.end = cancel
		go w.run(ctx)
	}
	w.clients[c] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.clients, c)
		if len(w.clients) == 0 {
			w.end()
		}
	}
}

// run prints each silence and its end until ctx ends.
func (w *silence) run(ctx context.Context) {
	var reasons []string // of the present silence; nil until the endpoints were probed
	var told time.Time   // when the printed silence began; zero if none was printed
	tick := time.NewTicker(silenceTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		lasted, refused := w.advance()
		switch {
		case lasted < probeAfter:
			reasons = nil
			if !told.IsZero() {
				w.say(ctx, "etcd answers again, after %v", time.Since(told).Round(time.Second))
				told = time.Time{}
			}
		case !told.IsZero():
		case refused != nil && lasted >= silenceLimit:
			told = time.Now().Add(-lasted)
			w.say(ctx, "etcd refuses the credentials: %v", refused)
		case refused != nil:
		case reasons == nil:
			bounded, cancel := context.WithTimeout(ctx, probeBound)
			reasons = w.askProbe()(bounded)
			cancel()
			w.probed()
		case lasted >= silenceLimit:
			told = time.Now().Add(-lasted)
			w.say(ctx, "etcd does not answer: %s", strings.Join(reasons, "; "))
		}
		w.beat(ctx)
	}
}

// askProbe returns the probe, which the caller calls next. The caller then calls probed.
func (w *silence) askProbe() func(context.Context) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probing = true
	return w.probe
}

func (w *silence) probed() {
	_, _ = w.advance()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probing = false
}

func (w *silence) say(ctx context.Context, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil { // a closed client waits for no answer
		fmt.Fprintf(w.out, "etcdlock: "+format+"\n", args...)
	}
}

// clock is a time that counts only a part of a pause of the process, as after ^Z. After a pause an
// answer may only wait to be read, which is no silence. Called with mu held.
func (w *silence) clock() time.Duration {
	most := 3 * silenceTick
	if w.probing {
		most = probeBound
	}
	return w.counted + min(time.Since(w.looked), most)
}

// advance advances the clock. It returns how long the oldest request has waited for an answer, which
// is 0 if there is none.
func (w *silence) advance() (lasted time.Duration, refused error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counted, w.looked = w.clock(), time.Now()
	since := w.counted
	for r := range w.owed {
		since = min(since, r.since)
	}
	if w.lost {
		since = min(since, w.lostAt)
	}
	return w.counted - since, w.refused
}

// beat sends a request if none is under way and none was answered recently. It shows an outage to an
// idle client, and the end of an outage.
func (w *silence) beat(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.beating || len(w.owed) > 0 || w.clock()-w.beaten < beatAfter || !w.lost && w.clock()-w.heard < beatAfter {
		return
	}
	for c := range w.clients {
		if c == nil {
			continue
		}
		w.beating, w.beaten = true, w.clock()
		go func() { // ends after beatBound
			ctx, cancel := context.WithTimeout(context.WithValue(clientv3.WithRequireLeader(ctx), beatKey{}, true), beatBound)
			defer cancel()
			_, _ = grpc_health_v1.NewHealthClient(c.ActiveConnection()).Check(ctx, &grpc_health_v1.HealthCheckRequest{}) // unary sees the result
			w.mu.Lock()
			defer w.mu.Unlock()
			w.beating = false
		}()
		return
	}
}

func (w *silence) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	r := &request{beat: ctx.Value(beatKey{}) != nil}
	w.begin(r)
	err := invoke(context.WithValue(ctx, requestKey{}, r), method, req, reply, cc, opts...)
	w.answer(r, err)
	return err
}

// stream watches a stream on which etcd answers each message, for renewals or watches.
func (w *silence) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	r := &request{}
	w.begin(r)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		w.answer(r, err)
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.owed, r)
	r.stop = context.AfterFunc(ctx, func() { w.over(r, ctx.Err()) }) // RecvMsg may not be called after that
	return &watchedStream{s, w, r}, nil
}

// watchedStream is a stream of a client.
type watchedStream struct {
	grpc.ClientStream
	silence *silence
	last    *request
}

func (s *watchedStream) SendMsg(m any) error {
	s.silence.begin(s.last)
	return s.ClientStream.SendMsg(m) // RecvMsg returns the same error
}

func (s *watchedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.silence.over(s.last, err)
	} else {
		s.silence.answer(s.last, nil)
	}
	return err
}

// begin records a request that has no answer yet.
func (w *silence) begin(r *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !r.over && !w.owed[r] {
		r.since = w.clock()
		w.owed[r] = true
	}
}

func (w *silence) over(r *request, err error) {
	w.mu.Lock()
	over, stop := r.over, r.stop
	r.over = true
	w.mu.Unlock()
	if !over {
		stop()
		w.answer(r, err)
	}
}

// answer records that etcd has answered a request, or that the request has ended without an answer.
func (w *silence) answer(r *request, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.owed[r] {
		r.since = w.clock() // an idle stream has ended
	}
	delete(w.owed, r)
	switch denied := rpctypes.Error(err); {
	case isAny(denied, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision):
		w.refused = denied
	case err != nil && !answer.Final(err):
	case r.beat && w.refused != nil:
		return // a beat needs no credentials, so it does not show that they are accepted
	default:
		w.lost, w.refused, w.heard = false, nil, w.clock()
		return
	}
	if !w.lost || r.since < w.lostAt {
		w.lost, w.lostAt = true, r.since
	}
}

// sent tells the silence when a request is sent. Before that it waited for a connection.
type sent struct{ *silence }

func (s sent) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (s sent) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (s sent) HandleConn(context.Context, stats.ConnStats)                       {}
func (s sent) HandleRPC(ctx context.Context, rs stats.RPCStats) {
	if _, ok := rs.(*stats.OutHeader); !ok {
		return
	}
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		if now := s.clock(); now-r.since < silenceLimit { // a longer silence was printed already
			r.since = now
		}
	}
}
