package promdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// Lookback is Prometheus' default.
const lookback = 5 * time.Minute

var (
	syntax = parser.NewParser(parser.Options{})
	engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: time.Minute, LookbackDelta: lookback, Parser: syntax,
		EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
)

// Range evaluates a query at each step.
func (db *DB) Range(query string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	ctx := context.Background()
	q, err := engine.NewRangeQuery(ctx, db, nil, query, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer q.Close()
	r := q.Exec(ctx)
	m, err := r.Matrix()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	copied := make(promql.Matrix, 0, len(m)) // Close gives the points back to a pool
	for _, s := range m {
		copied = append(copied, promql.Series{Metric: s.Metric, Floats: slices.Clone(s.Floats)})
	}
	return copied, nil
}

// Metrics returns the names of the metrics that a query reads.
func Metrics(query string) ([]string, error) {
	expr, err := syntax.ParseExpr(query)
	if err != nil {
		return nil, err
	}
	var names []string
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			names = append(names, v.Name)
		}
		return nil
	})
	return names, nil
}

// Rules reads a file of rules, and checks it and its templates as Prometheus does.
func Rules(file string) ([]rulefmt.Rule, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, syntax, slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all, nil
}

// Fired is the time in which an alert has fired.
type Fired struct {
	Alert    string
	Labels   labels.Labels
	From, To time.Time
}

// Fire evaluates a rule at each step, and returns when it has fired: once its query has had the same
// labels at each step for the time that the rule gives.
func (db *DB) Fire(rule *rulefmt.Rule, from, to time.Time, step time.Duration) ([]Fired, error) {
	matrix, err := db.Range(rule.Expr, from, to, step)
	if err != nil {
		return nil, err
	}
	var fired []Fired
	for _, s := range matrix {
		var since, last time.Time
		end := func() {
			if !since.IsZero() && last.Sub(since) >= time.Duration(rule.For) {
				fired = append(fired, Fired{rule.Alert, s.Metric, since.Add(time.Duration(rule.For)), last})
			}
		}
		for _, p := range s.Floats {
			at := time.UnixMilli(p.T)
			if last.IsZero() || at.Sub(last) > step {
				end()
				since = at
			}
			last = at
		}
		end()
	}
	slices.SortFunc(fired, func(a, b Fired) int { return a.From.Compare(b.From) })
	return fired, nil
}
