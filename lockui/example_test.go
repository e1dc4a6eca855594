package lockui_test

import (
	"net/http"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/lockui"
)

// The page as a part of another server.
func Example() {
	_ = func(mux *http.ServeMux, client *clientv3.Client, serve func() error) error {
		ui, err := lockui.New(client, lockui.WithPrefix("jobs/"))
		if err != nil {
			return err
		}
		defer ui.Close()
		mux.Handle("/locks/", http.StripPrefix("/locks", ui))
		return serve()
	}
}
