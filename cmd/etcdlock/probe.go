package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// probeAll returns a fault for each endpoint. Each is probed on its own connection.
func probeAll(ctx context.Context, cfg clientv3.Config) []string {
	found := make([]string, len(cfg.Endpoints))
	var probes sync.WaitGroup
	for i, endpoint := range cfg.Endpoints {
		probes.Go(func() { found[i] = endpoint + ": " + probe(ctx, cfg, endpoint) })
	}
	probes.Wait()
	return found
}

// probe blocks until the endpoint has answered, or ctx ends.
func probe(ctx context.Context, cfg clientv3.Config, endpoint string) string {
	var dns *net.DNSError
	if err := resolve(ctx, endpoint); errors.As(err, &dns) {
		if dns.IsNotFound {
			return "no such host"
		}
		return "the name cannot be looked up: " + dns.Err
	}
	cfg.Endpoints, cfg.DialOptions, cfg.MaxUnaryRetries = []string{endpoint}, nil, 1
	cfg.Username, cfg.Password = "", "" // clientv3.New would request a token
	client, err := clientv3.New(cfg)
	if err != nil {
		return err.Error()
	}
	defer client.Close()
	st, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(false))
	switch {
	case err != nil:
		return reason(err)
	case st.Leader == 0:
		return "knows of no raft leader"
	default:
		return "is reachable, but has not answered the request"
	}
}

// resolve looks up the host of an endpoint.
func resolve(ctx context.Context, endpoint string) error {
	host := endpoint
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		host = u.Host
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "" || strings.HasPrefix(endpoint, "unix") || net.ParseIP(host) != nil {
		return nil
	}
	_, err := net.DefaultResolver.LookupHost(ctx, host)
	return err
}

// around matches what gRPC puts around the error of a connection.
var around = regexp.MustCompile(`^.*desc = "(?:transport: )?(?:Error while dialing: )?(?:dial \w+ \S+ )?(?:connect: )?(.*)"$`)

// reason is the error of a probe in a few words.
func reason(err error) string {
	st := status.Convert(err)
	text := st.Message()
	_, connecting, failed := strings.Cut(text, "latest balancer error: ")
	if failed {
		text = connecting
	}
	text = around.ReplaceAllString(text, "$1")
	handshake, tls := strings.CutPrefix(text, "authentication handshake failed: ")
	switch {
	case tls && (handshake == "EOF" || strings.HasPrefix(handshake, "tls: first record")):
		return "TLS: " + handshake + " (does it serve TLS?)"
	case tls:
		return "TLS: " + handshake
	case !failed && (st.Code() == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded)):
		return "no answer, as from a member that hangs or is cut off"
	case strings.Contains(text, "error reading server preface"):
		return text + " (does it need TLS, or is it not an etcd?)"
	default:
		return text
	}
}
