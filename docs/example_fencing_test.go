package docs

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// teller is that of examples/fencing without the fence.
type teller struct {
	session *etcdlock.Session
	send    func(ctx context.Context, method, account string, form url.Values) (balance int, err error)
}

func (t *teller) withdraw(ctx context.Context, account string, amount int) error {
	mutex := etcdlock.NewMutex(t.session, "accounts/"+account)
	return mutex.Do(ctx, func(ctx context.Context, _ *etcdlock.Lock) error {
		balance, err := t.send(ctx, http.MethodGet, account, nil)
		if err != nil {
			return err
		}
		form := url.Values{"balance": {strconv.Itoa(balance - amount)}}
		_, err = t.send(ctx, http.MethodPut, account, form)
		return err
	})
}

func TestTheTellerWithdraws(t *testing.T) {
	client := newClient()
	defer client.Close()
	session, err := etcdlock.NewSession(t.Context(), client)
	require.NoError(t, err)
	defer session.Close(t.Context())
	balance := 100
	bank := &teller{session, func(_ context.Context, method, _ string, form url.Values) (int, error) {
		if method == http.MethodPut {
			balance, _ = strconv.Atoi(form.Get("balance"))
		}
		return balance, nil
	}}
	require.NoError(t, bank.withdraw(t.Context(), "7", 10))
	require.Equal(t, 90, balance)
}
