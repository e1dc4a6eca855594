package history

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// ErrIllegal is the error of a history that no lock of its kind could have produced.
var ErrIllegal = errors.New("illegal history")

// ErrUndecided is the error of a history that could not be checked in time. Callers treat it as a failure.
var ErrUndecided = errors.New("undecided history")

// checkTimeout is how long the check of one name may take. Ten thousand operations need less than a tenth of a second.
const checkTimeout = time.Minute

// Check checks the operations on each name separately against a model. The evidence may be nil if the history has no
// unknown outcome and no Read.
func Check(m Model, ops []Op, evidence *Evidence) error {
	ops, err := evidence.closed(ops)
	if err != nil {
		return err
	}
	byName := make(map[string][]Op)
	var names []string
	for _, o := range ops {
		if byName[o.Name] == nil {
			names = append(names, o.Name)
		}
		byName[o.Name] = append(byName[o.Name], o)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		all := byName[name]
		if m.first {
			if evidence == nil {
				return fmt.Errorf("history: %q: the %s is not checked without evidence", name, m.what)
			}
			all = append(all, evidence.reigns(name)...)
		}
		if err := m.check(all); err != nil {
			errs = append(errs, fmt.Errorf("history: %q is not a history of the %s: %w", name, m.what, err))
		}
	}
	return errors.Join(errs...)
}

// check checks the operations on one name.
func (m Model) check(ops []Op) error {
	slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	in := make([]porcupine.Operation, len(ops))
	for i := range ops {
		in[i] = porcupine.Operation{Input: &ops[i], Call: ops[i].Call, Return: ops[i].Return}
	}
	switch porcupine.CheckOperationsTimeout(m.porcupine(), in, checkTimeout) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%w: %d operations in %v", ErrUndecided, len(ops), checkTimeout)
	default:
		return fmt.Errorf("%w:\n%s", ErrIllegal, m.explain(in))
	}
}

// explain shows where the longest legal sequence of operations ends.
func (m Model) explain(in []porcupine.Operation) string {
	_, info := porcupine.CheckOperationsVerbose(m.porcupine(), in, checkTimeout)
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, run := range part {
			if len(run) > len(longest) {
				longest = run
			}
		}
	}
	s, done := &state{limit: m.limit}, make(map[*Op]bool)
	for _, op := range longest {
		o := op.Input.(*Op)
		done[o], s = true, m.step(s, o)
	}
	var b strings.Builder
	const shown = 8
	if n := len(longest) - shown; n > 0 {
		fmt.Fprintf(&b, "  (%d operations that fit)\n", n)
	}
	for _, op := range longest[max(0, len(longest)-shown):] {
		fmt.Fprintf(&b, "  %v\n", op.Input)
	}
	fmt.Fprintf(&b, "then %v, and none of these can be next:\n", s)
	n := 0
	for _, op := range in {
		if o := op.Input.(*Op); !done[o] && n < shown {
			fmt.Fprintf(&b, "  %v\n", o)
			n++
		}
	}
	return b.String()
}
