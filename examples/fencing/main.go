// Command fencing withdraws from an account that another service keeps. Its lock excludes other
// processes, and the ledger refuses what arrives when the lock is lost.
//
//	go run ./fencing
//	go run ./fencing -endpoints localhost:2379
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	_ "modernc.org/sqlite" // the driver of the ledger

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencehttp"
)

// epoch is 0 until etcd is replaced; see docs/operating.md.
const epoch = 0

// teller is the service: it withdraws from accounts of the ledger.
type teller struct {
	session *etcdlock.Session
	ledger  string // its URL
	client  *http.Client
}

func newTeller(session *etcdlock.Session, ledger string) *teller {
	return &teller{session, ledger, &http.Client{Transport: &fencehttp.Transport{}}}
}

// withdraw reads the balance and writes a new one, under the lock of the account.
func (t *teller) withdraw(ctx context.Context, account string, amount int) error {
	mutex := etcdlock.NewMutex(t.session, "accounts/"+account)
	return mutex.Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
		ctx = fence.WithToken(ctx, fence.Of(lock, epoch))
		// The claim comes before the read: from here on, no write of an earlier holder can
		// change the balance.
		balance, err := t.send(ctx, http.MethodPost, account+"/claim", nil)
		if err != nil {
			return err
		}
		_, err = t.send(ctx, http.MethodPut, account, url.Values{"balance": {strconv.Itoa(balance - amount)}})
		return err
	})
}

// send returns the balance that the ledger answers.
func (t *teller) send(ctx context.Context, method, path string, form url.Values) (int, error) {
	request, err := http.NewRequestWithContext(ctx, method, t.ledger+"/accounts/"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := t.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if err := fencehttp.Stale(resp); err != nil {
		return 0, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the ledger answers %s: %s", resp.Status, body)
	}
	return strconv.Atoi(string(body))
}

func main() {
	endpoints := flag.String("endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *endpoints); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoints string) error {
	client, closeClient, err := devetcd.Connect(ctx, endpoints)
	if err != nil {
		return err
	}
	defer closeClient()
	session, closeSession, err := devetcd.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer closeSession()
	dir, err := os.MkdirTemp("", "fencing")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := newLedger(filepath.Join(dir, "ledger.db"))
	if err != nil {
		return err
	}
	defer l.db.Close()
	server := httptest.NewServer(l.handler())
	defer server.Close()

	if err := newTeller(session, server.URL).withdraw(ctx, "7", 10); err != nil {
		return err
	}
	fmt.Println("withdrawn: 10")
	return nil
}
