package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock/internal/inspect/exporter"
)

func newExporter(c *connection) *cobra.Command {
	x := &exporter.Exporter{}
	var listen string
	cmd := &cobra.Command{
		Use:                   "exporter NAME|PREFIX*...",
		DisableFlagsInUseLine: true,
		Short:                 "Serve metrics of queues to Prometheus",
		Long: `Serves /metrics until it is interrupted: entries that hold and wait, the oldest wait, the age of
the hold, the rest of the holder's lease, vacant elections, keys without a lease, deadlocks.

It tells what etcd has, so it also works when every process of a service is dead. Each scrape reads
the queues once. An argument that ends in an asterisk is a prefix. Of the names found by prefixes
the first --max-names that it finds have series of their own for as long as it runs, and all others
count as "_other_".`,
		Example: `  etcdlock exporter --election scheduler 'jobs/*'
  etcdlock exporter --listen 127.0.0.1:9477 jobs/nightly`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if prefix, ok := strings.CutSuffix(arg, "*"); ok {
					x.Prefixes = append(x.Prefixes, prefix)
				} else {
					x.Names = append(x.Names, arg)
				}
			}
			switch {
			case len(args)+len(x.Elections) == 0:
				return usagef("give a name, a prefix with an asterisk, or --election")
			case x.MaxNames < 0:
				return usagef("--max-names must not be negative")
			}
			return serveMetrics(cmd.Context(), c, x, listen)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:9477", "`address` to serve at")
	f.StringArrayVar(&x.Elections, "election", nil, "`name` of an election, which is vacant while it has no leader; repeatable")
	f.IntVar(&x.MaxNames, "max-names", 200, "`number` of names found by prefixes that have series of their own")
	return cmd
}

// serveMetrics serves until a signal.
func serveMetrics(ctx context.Context, c *connection, x *exporter.Exporter, listen string) error {
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	s, client, end, err := c.open(ctx, 0)
	if err != nil {
		return orSignal(ctx, err)
	}
	defer end()
	x.Client, x.Patience = client, c.commandTimeout
	x.Deadlocks = func(ctx context.Context, prefix string) ([]string, error) {
		found, err := s.Deadlocks(ctx, prefix)
		return lines(found), err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return usageError{err}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", x)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: c.commandTimeout + 30*time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Fprintf(os.Stderr, "etcdlock: metrics at http://%s/metrics\n", l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return orSignal(ctx, context.Cause(ctx))
}
