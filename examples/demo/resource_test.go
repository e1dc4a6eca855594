package main

import (
	"errors"
	"strings"
	"testing"
)

func openForTest(t *testing.T) *resource {
	t.Helper()
	r, err := openResource()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestTheRegisterRefusesAnOlderToken(t *testing.T) {
	r := openForTest(t)
	for _, step := range []struct {
		token   int64
		refused bool
	}{{7, false}, {7, false}, {9, false}, {7, true}, {8, true}, {9, false}} {
		err := ask(t.Context(), r.url(), "write", "somebody", step.token, "value")
		var no *refusedError
		if errors.As(err, &no) != step.refused || (err != nil) != step.refused {
			t.Errorf("write with token %d: %v, want refused %t", step.token, err, step.refused)
		}
	}
	if value, token := r.read(); value != "value" || token != 9 {
		t.Errorf("holds %q with token %d", value, token)
	}
}

// A referee that sees nothing would make the demo pass with a broken lock.
func TestTheRefereeSeesEveryFault(t *testing.T) {
	type step struct {
		act, who string
		token    int64
	}
	for _, test := range []struct {
		name  string
		steps []step
		fault string // empty: none
	}{
		{"in order", []step{{"enter", "a", 3}, {"leave", "a", 3}, {"enter", "b", 5}, {"leave", "b", 5}}, ""},
		{"two inside", []step{{"enter", "a", 3}, {"enter", "b", 5}}, "b entered while a was inside"},
		{"same token", []step{{"enter", "a", 3}, {"leave", "a", 3}, {"enter", "b", 3}}, "with token 3 after token 3"},
		{"older token", []step{{"enter", "a", 3}, {"leave", "a", 3}, {"enter", "b", 2}}, "with token 2 after token 3"},
		{"leaves for another", []step{{"enter", "a", 3}, {"leave", "b", 3}}, `b left while "a" was inside`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := openForTest(t)
			for _, s := range test.steps {
				var no *refusedError
				if err := ask(t.Context(), r.url(), s.act, s.who, s.token, ""); err != nil && !errors.As(err, &no) {
					t.Fatal(err)
				}
			}
			_, _, _, faults := r.verdict()
			if got := strings.Join(faults, "; "); (got == "") != (test.fault == "") || !strings.Contains(got, test.fault) {
				t.Errorf("saw %q, want %q", got, test.fault)
			}
		})
	}
}

func TestTheReportIsGoodOnlyIfAllIs(t *testing.T) {
	for _, test := range []struct {
		name string
		kept bool
		err  error
		good bool
	}{
		{"all kept", true, nil, true},
		{"one broken", false, nil, false},
		{"not to its end", true, errors.New("interrupted"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			r := &report{out: &out}
			r.promise(true, "first", "seen")
			r.promise(test.kept, "second", "seen")
			if good := r.close(test.err); good != test.good || good == strings.Contains(out.String(), "FAILED") {
				t.Errorf("good is %t\n%s", good, &out)
			}
		})
	}
}
