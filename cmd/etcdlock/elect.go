package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
	"github.com/etcdlock/etcdlock/internal/wire"
	"github.com/etcdlock/etcdlock/leaderhttp"
)

// electFlags are the flags of the elect command.
type electFlags struct {
	supervision
	sessionFlags
	id       string
	once     bool
	observe  bool
	priority int
	verbose  bool
	listen   string
	health   health
	out      output
}

func newElect(c *connection) *cobra.Command {
	f := &electFlags{}
	cmd := &cobra.Command{
		Use:                   "elect NAME [--observe | -- COMMAND [ARGUMENT...]]",
		DisableFlagsInUseLine: true,
		Short:                 "Run a command while leading, or print the leaders",
		Long: `Campaigns in an election, and runs the command while it leads.

If the leadership is lost, the command is ended before another candidate can lead, as by
"etcdlock lock". etcdlock then campaigns again, and runs the command in its next term. If the
command ends by itself, etcdlock resigns and campaigns again after a pause of 1 s, doubled up to
30 s while commands end within 10 s. A signal to etcdlock goes to the command, and etcdlock ends
with the command.

The command gets the environment of "etcdlock lock", ETCDLOCK_ID, and ETCDLOCK_CREATE_REVISION.
This is the number of the term, which --observe, /status and "etcdlock ls" show too.
ETCDLOCK_TOKEN is at least as large, and is only for fencing. If "etcdlock transfer", "step-down"
or "ask" asks the leader to resign, the command is ended, and etcdlock resigns and campaigns again.
The command then has --stop-timeout to end, and leads until it has ended.
With --health it campaigns only while a shell command succeeds. With --observe it does not
campaign. It prints the ID of each leader on a line, and an empty line when there is no leader.

` + exitCodes(false),
		Example: `  etcdlock elect scheduler -- ./scheduler
  etcdlock elect api --id "$(hostname):8080" --listen :8081 -- ./api
  etcdlock elect api --health 'curl -fs localhost:8080/healthz' -- ./api
  etcdlock elect scheduler --observe`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.observe {
				if len(args) != 1 || cmd.ArgsLenAtDash() >= 0 {
					return usagef("--observe takes one name and no command: %s", cmd.UseLine())
				}
				return f.watch(cmd.Context(), c, args[0])
			}
			names, command, err := split(cmd, args)
			switch {
			case err != nil:
				return err
			case len(names) != 1:
				return usagef("elect takes one name: %s", cmd.UseLine())
			}
			return f.run(cmd.Context(), c, names[0], command)
		},
	}
	fl := cmd.Flags()
	f.supervision.addFlags(fl)
	f.resignsWhenAsked(fl)
	f.sessionFlags.addFlags(fl)
	f.health.addFlags(fl)
	fl.StringVar(&f.id, "id", "", "ID of this candidate that observers see, such as its address (default the host's name)")
	fl.BoolVar(&f.once, "once", false, "end after one term, with the command's exit code, or 102 if the leadership was lost")
	fl.IntVar(&f.priority, "priority", 0, "lead before waiting candidates of lower priority")
	fl.StringVar(&f.listen, "listen", "", "address on which to serve /leader (200 while leading, else 503), /healthz, /readyz and /status")
	fl.BoolVar(&f.observe, "observe", false, "print each leader, and do not campaign")
	addVerbose(fl, &f.verbose)
	f.out.addFlag(cmd)
	return cmd
}

func (f *electFlags) run(ctx context.Context, c *connection, name string, command []string) error {
	if err := c.checkNames(name); err != nil {
		return err
	}
	if err := f.check(f.ttl); err != nil {
		return err
	}
	if err := f.health.check(); err != nil {
		return err
	}
	if f.id == "" {
		f.id, _ = os.Hostname() // empty after an error
	}
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	var monitor etcdlock.Monitor
	opts := append(f.health.options(name), etcdlock.WithMonitor(&monitor))
	if f.onAsk == onAskResign {
		opts = append(opts, etcdlock.WithResignOnRequest())
	}
	if f.listen != "" {
		stop, err := serveProbes(f.listen, &monitor)
		if err != nil {
			return err
		}
		defer stop()
	}
	p, err := child.Prepare(command)
	if err != nil {
		return notRunError{err}
	}
	t := &terms{electFlags: f, sigs: sigs, name: name, command: command, next: p}
	defer func() { t.next.End() }()
	s, client, end, err := c.open(ctx, 0, f.options(command)...)
	if err != nil {
		return orSignal(ctx, err)
	}
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.noter = &noter{client: client, session: s, names: []string{name}}
	t.noter.queued(ctx)
	defer narrate(ctx, &narrator{client: client, session: s, names: []string{name}, verbose: f.verbose, election: true, busy: &t.leading})()
	t.ctx, t.stop, t.ttl = ctx, cancel, s.TTL()
	err = etcdlock.NewElection(s, name, etcdlock.WithPriority(f.priority)).Run(ctx, f.id, t.lead, opts...)
	if t.result != nil {
		return t.result
	}
	return orSignal(ctx, err)
}

// terms has the state of one candidate over its terms.
type terms struct {
	*electFlags
	sigs    *signals
	name    string
	command []string
	ttl     time.Duration

	ctx     context.Context // spans all terms
	stop    func()          // ends ctx
	next    *child.Process  // the process of the next term
	leading atomic.Bool     // true during a term
	noter   *noter
	quick   int   // number of consecutive commands that ended soon
	result  error // the end of etcdlock; nil until it ends
}

// lead runs the command for one term.
func (t *terms) lead(ctx context.Context, term *etcdlock.Term) error {
	t.leading.Store(true)
	t.noter.granted(ctx, term)
	defer func() {
		t.leading.Store(false)
		t.noter.queued(t.ctx)
	}()
	began := time.Now()
	fmt.Fprintf(os.Stderr, "etcdlock: leading %s: create revision %d, token %d\n", wire.Quote(t.name), term.CreateRevision(), term.Token())
	env := append(environment(term, t.name, term.Key()), "ETCDLOCK_ID="+t.id,
		"ETCDLOCK_CREATE_REVISION="+strconv.FormatInt(term.CreateRevision(), 10))
	code, lost, err := t.supervision.run(ctx, t.sigs, t.next, term, t.ttl, env)
	if t.ctx.Err() != nil {
		return t.ctx.Err() // a signal came before the command ran
	}
	if isA[notRunError](err) {
		return t.end(err)
	}
	next, prepareErr := child.Prepare(t.command)
	if prepareErr != nil {
		return t.end(notRunError{prepareErr})
	}
	t.next = next
	switch {
	case err != nil:
		return err // the term ended before the command ran
	case t.sigs.askedForEnd():
		return t.end(exitError(code))
	case lost != nil && t.once:
		return t.end(fmt.Errorf("%s: %w", wire.Quote(t.name), lost))
	case lost != nil:
		fmt.Fprintf(os.Stderr, "etcdlock: %s: %s: campaigning again\n", wire.Quote(t.name), trimName(lost))
		t.resign(term) // the key may still exist: the command is ended shortly before the deadline
		return nil
	case t.once:
		return t.end(exitError(code))
	case ctx.Err() != nil:
		fmt.Fprintf(os.Stderr, "etcdlock: %s: resigning: %s\n", wire.Quote(t.name), trimName(context.Cause(ctx)))
		return nil
	}
	return t.pause(term, code, time.Since(began))
}

// end ends the candidacy with a result.
func (t *terms) end(result error) error {
	t.result = result
	t.stop()
	return result
}

// pause resigns after the command has ended by itself, and waits before the next campaign.
func (t *terms) pause(term *etcdlock.Term, code int, ran time.Duration) error {
	const soon, most = 10 * time.Second, 5 // 1 s doubled five times is 32 s
	if ran > soon {
		t.quick = 0
	}
	wait := min(time.Second<<min(t.quick, most), 30*time.Second)
	t.quick++
	fmt.Fprintf(os.Stderr, "etcdlock: %s: the command has ended with exit code %d: resigning, and campaigning again in %v\n", wire.Quote(t.name), code, wait)
	t.resign(term)
	select {
	case <-time.After(wait):
	case <-t.ctx.Done():
	}
	return nil
}

// resign ends a term after its command has ended. If etcd does not confirm it in time, the session
// continues in the background.
func (t *terms) resign(term *etcdlock.Term) {
	ctx, cancel := context.WithTimeout(t.ctx, t.ttl)
	defer cancel()
	_ = term.Resign(ctx)
}

// checkAddress returns an error for an address that can never be used.
func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err
}

// serveProbes serves the state of the election over HTTP until the returned function is called.
func serveProbes(addr string, m *etcdlock.Monitor) (stop func(), err error) {
	if err := checkAddress(addr); err != nil {
		return nil, usagef("--listen %q: %w", addr, err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err) // not a usage error: another process may have the port for now
	}
	fmt.Fprintf(os.Stderr, "etcdlock: serving http://%s/leader\n", l.Addr())
	server := &http.Server{Handler: leaderhttp.Handler(m), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	return func() {
		_ = server.Close()
		<-served
	}, nil
}

// seen is one observation in JSON.
type seen struct {
	Leader         string    `json:"leader"`
	Vacant         bool      `json:"vacant,omitempty"`
	Unconfirmed    bool      `json:"unconfirmed,omitempty"`
	CreateRevision int64     `json:"create_revision,omitempty"`
	Revision       int64     `json:"revision"`
	Time           time.Time `json:"time"`
}

// watch prints each leader until it is interrupted.
func (f *electFlags) watch(ctx context.Context, c *connection, name string) error {
	if err := errors.Join(f.out.check(), c.checkNames(name)); err != nil {
		return err
	}
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	s, end, err := c.session(ctx)
	if err != nil {
		return orSignal(ctx, err)
	}
	defer end()
	var last etcdlock.Leader
	for l, err := range etcdlock.NewElection(s, name).Observe(ctx) {
		if err != nil {
			return err
		}
		same := l.Key != "" && l.Key == last.Key && l.CreateRevision == last.CreateRevision && l.Value == last.Value
		last = l
		if same && !f.out.json() {
			continue // only Unconfirmed has changed
		}
		if f.out.json() {
			err = printLine(seen{l.Value, l.Vacant(), l.Unconfirmed, l.CreateRevision, l.Revision, time.Now()})
		} else {
			_, err = fmt.Println(strings.ReplaceAll(l.Value, "\n", " "))
		}
		if err != nil {
			return err
		}
	}
	return orSignal(ctx, ctx.Err())
}
