package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/examples/internal/programtest"
	"github.com/etcdlock/etcdlock/fence/fencehttp"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestTheProgramWithdraws(t *testing.T) {
	p := programtest.Start(t)
	p.Await("withdrawn: 10")
	if code, output := p.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}

// network keeps the first PUT until deliver is closed, like the queue of a proxy. The request arrives
// even if the sender has given up.
type network struct {
	ledger  http.Handler
	token   string        // if not "", the late request arrives with this token
	kept    chan struct{} // closed when the request is kept
	deliver chan struct{} // closed to deliver it
	status  chan int      // of the answer to the late request
}

func newNetwork(ledger http.Handler, token string) *network {
	return &network{ledger, token, make(chan struct{}), make(chan struct{}), make(chan int, 1)}
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-n.kept:
		n.ledger.ServeHTTP(w, r)
		return
	default:
	}
	if r.Method != http.MethodPut {
		n.ledger.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	late := r.Clone(context.WithoutCancel(r.Context()))
	late.Body = io.NopCloser(bytes.NewReader(body))
	if n.token != "" {
		late.Header.Set(fencehttp.TokenHeader, n.token)
	}
	close(n.kept)
	<-n.deliver
	answer := httptest.NewRecorder()
	n.ledger.ServeHTTP(answer, late)
	n.status <- answer.Code
}

// late plays the story of docs/fencing.md: Alice's write is on its way when she loses the lock, Bob
// withdraws, and then Alice's write arrives. It returns the answer to it and the balance at the end.
func late(t *testing.T, token string) (status, balance int) {
	t.Helper()
	ctx := t.Context()
	client, closeClient, err := devetcd.Connect(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient()
	l, err := newLedger(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.db.Close()
	network := newNetwork(l.handler(), token)
	server := httptest.NewServer(network)
	defer server.Close()
	tellers := map[string]*teller{}
	leases := map[string]*etcdlock.Session{}
	for _, name := range []string{"alice", "bob"} {
		session, closeSession, err := devetcd.NewSession(ctx, client)
		if err != nil {
			t.Fatal(err)
		}
		defer closeSession() //nolint:revive // both sessions end with the test
		tellers[name], leases[name] = newTeller(session, server.URL), session
	}

	alice := make(chan error, 1)
	go func() { alice <- tellers["alice"].withdraw(ctx, "7", 10) }()
	<-network.kept
	if _, err := client.Revoke(ctx, leases["alice"].Lease()); err != nil {
		t.Fatal(err)
	}
	if err := <-alice; !errors.Is(err, etcdlock.ErrLost) {
		t.Errorf("alice got %v, want ErrLost", err)
	}
	if err := tellers["bob"].withdraw(ctx, "7", 30); err != nil {
		t.Fatal(err)
	}
	close(network.deliver)
	status = <-network.status
	if err := l.db.QueryRowContext(ctx, "SELECT balance FROM accounts WHERE id = '7'").Scan(&balance); err != nil {
		t.Fatal(err)
	}
	return status, balance
}

func TestALateWriteIsRefused(t *testing.T) {
	if status, balance := late(t, ""); status != http.StatusPreconditionFailed || balance != 70 {
		t.Errorf("answer %d and balance %d, want 412 and 70", status, balance)
	}
}

// The control: a token that the ledger has no reason to refuse lets the same request through, and
// Bob's withdrawal is lost.
func TestWithoutTheFenceALateWriteUndoesTheNextOne(t *testing.T) {
	if status, balance := late(t, "0.9223372036854775807"); status != http.StatusOK || balance != 90 {
		t.Errorf("answer %d and balance %d, want 200 and 90", status, balance)
	}
}
