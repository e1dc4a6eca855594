package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Not parallel: it replaces the resolver.
func TestTheSearchForEndpointsEndsWithTheCommand(t *testing.T) {
	asked := make(chan struct{}, 100)
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, errors.New("no answer")
	}}
	defer func(before *net.Resolver) { resolver = before }(resolver)
	resolver = silent
	c := &connection{discoverySRV: "etcd.example", insecureDiscovery: true, commandTimeout: time.Minute}

	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	err := c.discover(ctx)
	require.ErrorAs(t, err, &unreachable{})
	require.ErrorContains(t, err, `SRV records of "etcd.example"`)
	require.Less(t, time.Since(began), 4*time.Second, "the command has ended")

	began, c.commandTimeout = time.Now(), 100*time.Millisecond
	require.Error(t, c.discover(t.Context()))
	require.Less(t, time.Since(began), 4*time.Second, "by itself the resolver takes 20 s")
}
