package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/google/pprof/profile"
)

// etcdTake is the CPU profile of a member of etcd from its beginning until end is called.
// The request for it names a number of seconds; but the server also stops when it sees no
// more of its client, and answers. To stop at any time the connection is closed in the one
// direction, and read from the other.
type etcdTake struct {
	conn  *net.TCPConn
	pid   int
	since time.Duration // of the server's processor time
}

// longest is for a span that nobody ends.
const longest = 10 * time.Minute

func takeEtcd(ctx context.Context, endpoint string, pid int) (*etcdTake, error) {
	at, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return nil, err
	}
	t := &etcdTake{conn: conn.(*net.TCPConn), pid: pid}
	_, err = fmt.Fprintf(conn, "GET /debug/pprof/profile?seconds=%.0f HTTP/1.1\r\nHost: %s\r\n\r\n", longest.Seconds(), at.Host)
	if err == nil {
		t.since, err = processorTime(t.pid)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return t, nil
}

// end returns the profile, and how much processor time the server has used.
func (t *etcdTake) end() (*profile.Profile, time.Duration, error) {
	defer t.conn.Close()
	if err := t.conn.CloseWrite(); err != nil {
		return nil, 0, err
	}
	until, err := processorTime(t.pid)
	if err != nil {
		return nil, 0, err
	}
	if err := t.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, 0, err
	}
	r, err := http.ReadResponse(bufio.NewReader(t.conn), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("profile of etcd: %w", err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, text)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("profile of etcd: %w", err)
	}
	p, err := profile.ParseData(text)
	return p, until - t.since, err
}
