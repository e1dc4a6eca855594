package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func addVerbose(f *pflag.FlagSet, verbose *bool) {
	f.BoolVarP(verbose, "verbose", "v", false, "print the place in the queue and the holder while waiting, as at a terminal")
}

// heldVariable is the environment variable with the keys, one on a line, that the etcdlock processes
// around a command hold.
const heldVariable = "ETCDLOCK_HELD"

// heldAround is the list of keys that the etcdlock processes around this one hold.
func heldAround() []string {
	return strings.FieldsFunc(os.Getenv(heldVariable), func(r rune) bool { return r == '\n' })
}

// heldWithin is heldVariable for a command that runs under a hold.
func heldWithin(h held) string {
	keys := heldAround()
	switch h := h.(type) {
	case interface{ Keys() []string }:
		keys = append(keys, h.Keys()...)
	case interface{ Key() string }:
		keys = append(keys, h.Key())
	}
	return heldVariable + "=" + strings.Join(keys, "\n")
}

const nestedHint = "the holder is an etcdlock process around this one, and waits for this one to end: acquire the lock once, around both"

// withHint adds the hint to an error that names an etcdlock around this one as the holder.
func withHint(err error) error {
	if waitsForItself(err) {
		return fmt.Errorf("%w: %s", err, nestedHint)
	}
	return err
}

// waitsForItself reports whether an error names an etcdlock around this one as the holder.
func waitsForItself(err error) bool {
	var locked *etcdlock.LockedError
	return errors.As(err, &locked) && slices.Contains(heldAround(), locked.Holder.Key)
}

// narrator prints on standard error what a wait waits for. It always warns of a key without a lease,
// and of a wait for an etcdlock around this one. It prints the place in the queue and the holder at a
// terminal, or with --verbose.
type narrator struct {
	client   *clientv3.Client
	session  *etcdlock.Session
	names    []string
	verbose  bool
	election bool
	busy     *atomic.Bool // true while it does not wait; nil if it always waits

	printed map[string]bool   // warnings that were printed
	places  map[string]string // the place that was printed last, by name
	finds   int               // number of reads that have found the own entry
}

const (
	firstLook = time.Second      // most waits are shorter
	mostLooks = 10 * time.Second // the longest time between two reads
	// fewRead is the number of entries that are read of a queue if only warnings are printed. The
	// waiters of a long queue must not each read all of it.
	fewRead = 100
)

// narrate prints until the returned function is called or ctx ends.
func narrate(ctx context.Context, n *narrator) (stop func()) {
	n.verbose = n.verbose || term.IsTerminal(int(os.Stderr.Fd()))
	n.printed, n.places = make(map[string]bool), make(map[string]string)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (n *narrator) run(ctx context.Context) {
	for wait := firstLook; n.verbose || n.finds == 0; wait = min(2*wait, mostLooks) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if n.busy != nil && n.busy.Load() {
			continue
		}
		for _, name := range n.names {
			n.look(ctx, name)
		}
	}
}

// look reads a queue, and prints what is new. The silence reports an etcd that does not answer.
func (n *narrator) look(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, mostLooks)
	defer cancel()
	limit := fewRead
	if n.verbose {
		limit = 0
	}
	q, err := queues.First(ctx, n.client.KV, name, limit)
	if err != nil {
		return
	}
	own := slices.IndexFunc(q.Entries, func(e queues.Entry) bool { return e.Lease == n.session.Lease() })
	switch {
	case own >= 0:
		n.finds++
	case limit == 0 || len(q.Entries) < limit:
		return // this process is not in the queue, or not yet
	default:
		own = len(q.Entries)
		n.finds++
	}
	if own < len(q.Entries) && q.Entries[own].Holds {
		return
	}
	for _, line := range n.warnings(&q, own) {
		if !n.printed[line] && ctx.Err() == nil {
			n.printed[line] = true
			n.say(name, line)
		}
	}
	if place := n.place(&q, own); n.verbose && n.places[name] != place && ctx.Err() == nil {
		n.places[name] = place
		n.say(name, place)
	}
}

func (n *narrator) say(name, what string) {
	doing := "waiting for"
	if n.election {
		doing = "campaigning for"
	}
	fmt.Fprintf(os.Stderr, "etcdlock: %s %s: %s\n", doing, wire.Quote(name), what)
}

// warnings is what keeps a wait from ending by itself.
func (n *narrator) warnings(q *queues.Queue, own int) (all []string) {
	around := heldAround()
	for i := range q.Entries[:own] {
		e := &q.Entries[i]
		switch {
		case e.Stray():
			all = append(all, fmt.Sprintf("the key %s has no lease, so it blocks the lock until it is deleted: etcdlock evict --entry %s %s",
				wire.Quote(e.Key), wire.Quote(e.Key), wire.Quote(q.Name)))
		case slices.Contains(around, e.Key):
			all = append(all, nestedHint)
		}
	}
	return all
}

// place is the place in the queue and the holder.
func (n *narrator) place(q *queues.Queue, own int) string {
	waiting, holding := 1, []string{}
	for i := range q.Entries[:own] {
		if e := &q.Entries[i]; e.Holds {
			holding = append(holding, n.describe(e))
		} else {
			waiting++
		}
	}
	text := "place " + strconv.Itoa(waiting) + " in the queue"
	verb := map[bool]string{false: "held by ", true: "led by "}[n.election]
	switch len(holding) {
	case 0:
		return text
	case 1:
		return text + ", " + verb + holding[0]
	default:
		return fmt.Sprintf("%s, %s%s and %d more", text, verb, holding[0], len(holding)-1)
	}
}

func (n *narrator) describe(e *queues.Entry) string {
	switch {
	case e.Stray():
		return "the key " + wire.Quote(e.Key)
	case e.Host != "":
		return fmt.Sprintf("%s on %s, pid %d", wire.Quote(e.Owner), wire.Quote(e.Host), e.PID)
	case e.Value != "":
		return wire.Quote(e.Value)
	default:
		return "lease " + e.LeaseHex
	}
}
