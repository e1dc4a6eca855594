package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// selection is the part of all names that ls prints, and its order.
type selection struct {
	kind    string
	holder  string
	waited  bool
	sort    string
	reverse bool
	after   string
	limit   int
}

// orders are the values of --sort. Each puts first what an operator looks for: the oldest, or the most.
var orders = map[string]func(a, b *queues.Queue) int{
	"name":    func(a, b *queues.Queue) int { return strings.Compare(a.Name, b.Name) },
	"waiting": func(a, b *queues.Queue) int { return cmp.Compare(len(b.Waiters()), len(a.Waiters())) },
	"queued":  byTime(func(e *queues.Entry) time.Time { return e.Since }),
	"held":    byTime(func(e *queues.Entry) time.Time { return e.Granted }),
	"revision": func(a, b *queues.Queue) int {
		return cmp.Compare(firstHolder(a).CreateRevision, firstHolder(b).CreateRevision)
	},
}

// byTime puts the longest time first, and names without this time last.
func byTime(of func(*queues.Entry) time.Time) func(a, b *queues.Queue) int {
	return func(a, b *queues.Queue) int {
		ta, tb := of(firstHolder(a)), of(firstHolder(b))
		if ta.IsZero() || tb.IsZero() {
			return cmp.Compare(map[bool]int{true: 1}[ta.IsZero()], map[bool]int{true: 1}[tb.IsZero()])
		}
		return ta.Compare(tb)
	}
}

// firstHolder is the holder that ls shows; the zero entry if there is none.
func firstHolder(q *queues.Queue) *queues.Entry {
	if holders := q.Holders(); len(holders) > 0 {
		return &holders[0]
	}
	return &queues.Entry{}
}

func (s *selection) addFlags(cmd *cobra.Command) {
	kinds := []string{string(queues.Lock), string(queues.RWLock), string(queues.Semaphore), string(queues.Election)}
	by := slices.Sorted(func(yield func(string) bool) {
		for name := range orders {
			if !yield(name) {
				return
			}
		}
	})
	fl := cmd.Flags()
	fl.StringVar(&s.kind, "kind", "", "only names of this kind: "+strings.Join(kinds, ", "))
	fl.StringVar(&s.holder, "holder", "", "only names with a holder or a host that contains this text")
	fl.BoolVar(&s.waited, "waiting", false, "only names with waiters")
	fl.StringVar(&s.sort, "sort", "name", "order: "+strings.Join(by, ", ")+"; the longest time and the most waiters come first")
	fl.BoolVar(&s.reverse, "reverse", false, "the other way round")
	fl.IntVar(&s.limit, "limit", 0, "number of names (0: all)")
	fl.StringVar(&s.after, "after", "", "only names behind this one, for the next page of --limit; needs the order by name")
	for flag, values := range map[string][]string{"kind": kinds, "sort": by} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

func (s *selection) check() error {
	switch {
	case s.kind != "" && !slices.Contains([]queues.Kind{queues.Lock, queues.RWLock, queues.Semaphore, queues.Election}, queues.Kind(s.kind)):
		return usagef("--kind must be lock, rwlock, semaphore or election, not %q", s.kind)
	case orders[s.sort] == nil:
		return usagef("--sort %q is not known; see etcdlock ls --help", s.sort)
	case s.limit < 0:
		return usagef("--limit %d: give a number of names, or 0 for all", s.limit)
	case s.after != "" && (s.sort != "name" || s.reverse):
		return usagef("--after needs the order by name")
	}
	return nil
}

// of returns the names that are printed, in order. more is how many --limit has cut off.
func (s *selection) of(all []queues.Queue) (some []queues.Queue, more int) {
	some = slices.DeleteFunc(slices.Clone(all), func(q queues.Queue) bool { return !s.wants(&q) })
	slices.SortStableFunc(some, func(a, b queues.Queue) int {
		if s.reverse {
			a, b = b, a
		}
		return orders[s.sort](&a, &b)
	})
	if s.limit > 0 && len(some) > s.limit {
		return some[:s.limit], len(some) - s.limit
	}
	return some, 0
}

func (s *selection) wants(q *queues.Queue) bool {
	switch {
	case s.kind != "" && string(q.Kind) != s.kind:
		return false
	case s.waited && len(q.Waiters()) == 0:
		return false
	case s.after != "" && q.Name <= text.FromArg(s.after):
		return false
	case s.holder == "":
		return true
	}
	return slices.ContainsFunc(q.Holders(), func(e queues.Entry) bool {
		return strings.Contains(holder(e).text, s.holder) || strings.Contains(e.Host, s.holder)
	})
}

// tellMore prints how to see the names that --limit has cut off.
func (s *selection) tellMore(printed []queues.Queue, more int) {
	switch {
	case more == 0:
	case s.sort == "name" && !s.reverse:
		fmt.Fprintf(os.Stderr, "etcdlock: and %d more names (--after %s shows the next ones)\n", more, text.Named(printed[len(printed)-1].Name))
	default:
		fmt.Fprintf(os.Stderr, "etcdlock: and %d more names (--limit 0 shows all)\n", more)
	}
}
