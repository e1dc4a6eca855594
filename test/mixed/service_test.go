package mixed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	electionpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// leased is a user of the services that a server offers, which jetcd calls: it grants
// and keeps a lease by itself.
type leased struct {
	grant  func(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error)
	revoke func(ctx context.Context, id clientv3.LeaseID) error
	enter  func(ctx context.Context, lease clientv3.LeaseID) (*hold, error)
	lease  clientv3.LeaseID
	ttl    time.Duration
}

// unkept is the TTL of leases that are not renewed here.
const unkept = 60 * time.Second

func (c *leased) acquire(ctx context.Context) (*hold, error) {
	if c.lease == clientv3.NoLease {
		id, err := c.grant(ctx, c.ttl)
		if err != nil {
			return nil, err
		}
		c.lease = id
	}
	h, err := c.enter(ctx, c.lease)
	if err != nil {
		c.close()
	}
	return h, err
}

func (c *leased) die() { c.lease = clientv3.NoLease }

func (c *leased) close() {
	if c.lease != clientv3.NoLease {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.revoke(ctx, c.lease) // it may be gone
		c.lease = clientv3.NoLease
	}
}

func newServiceUser(w *world, c *clientv3.Client) *leased {
	u := &leased{
		ttl: unkept,
		grant: func(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
			resp, err := c.Grant(ctx, int64(ttl/time.Second))
			if err != nil {
				return 0, err
			}
			return resp.ID, nil
		},
		revoke: func(ctx context.Context, id clientv3.LeaseID) error {
			_, err := c.Revoke(ctx, id)
			return err
		},
	}
	w.t.Cleanup(u.close)
	return u
}

func newServiceLock(w *world, name string) contender {
	c := w.client()
	service := lockpb.NewLockClient(c.ActiveConnection())
	u := newServiceUser(w, c)
	u.enter = func(ctx context.Context, lease clientv3.LeaseID) (*hold, error) {
		resp, err := service.Lock(ctx, &lockpb.LockRequest{Name: []byte(name), Lease: int64(lease)})
		if err != nil {
			return nil, err
		}
		return &hold{
			key: string(resp.Key), lease: lease, token: resp.Header.Revision,
			release: func(ctx context.Context) error {
				_, err := service.Unlock(ctx, &lockpb.UnlockRequest{Key: resp.Key})
				return err
			},
		}, nil
	}
	return u
}

func newServiceElection(w *world, name, value string) contender {
	c := w.client()
	service := electionpb.NewElectionClient(c.ActiveConnection())
	u := newServiceUser(w, c)
	u.enter = func(ctx context.Context, lease clientv3.LeaseID) (*hold, error) {
		resp, err := service.Campaign(ctx, &electionpb.CampaignRequest{Name: []byte(name), Lease: int64(lease), Value: []byte(value)})
		if err != nil {
			return nil, err
		}
		return &hold{
			key: string(resp.Leader.Key), lease: lease, token: resp.Header.Revision, order: resp.Leader.Rev,
			release: func(ctx context.Context) error {
				_, err := service.Resign(ctx, &electionpb.ResignRequest{Leader: resp.Leader})
				return err
			},
			proclaim: func(ctx context.Context, value string) error {
				_, err := service.Proclaim(ctx, &electionpb.ProclaimRequest{Leader: resp.Leader, Value: []byte(value)})
				return err
			},
		}, nil
	}
	return u
}

// gateway speaks JSON to a member, as a shell script with curl does.
type gateway struct {
	url  string
	http *http.Client
}

func (w *world) gateway() *gateway {
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &gateway{url: w.cluster.Endpoints()[0], http: &http.Client{Transport: transport}}
}

// call posts a request, which has bytes in base64 and large numbers as strings, and reads
// the answer into one.
func (g *gateway) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, strings.TrimSpace(string(text)))
	}
	return json.Unmarshal(text, out)
}

type (
	jsonHeader struct {
		Revision int64 `json:"revision,string"`
	}
	jsonLeader struct {
		Name  []byte `json:"name"`
		Key   []byte `json:"key"`
		Rev   int64  `json:"rev,string"`
		Lease int64  `json:"lease,string"`
	}
	jsonKV struct {
		Key            []byte `json:"key"`
		Value          []byte `json:"value"`
		CreateRevision int64  `json:"create_revision,string"`
	}
)

func newGatewayUser(w *world, g *gateway) *leased {
	u := &leased{
		ttl: unkept,
		grant: func(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
			var out struct {
				ID string `json:"ID"`
			}
			err := g.call(ctx, "/v3/lease/grant", map[string]any{"TTL": strconv.Itoa(int(ttl / time.Second))}, &out)
			if err != nil {
				return 0, err
			}
			id, err := strconv.ParseInt(out.ID, 10, 64)
			return clientv3.LeaseID(id), err
		},
		revoke: func(ctx context.Context, id clientv3.LeaseID) error {
			return g.call(ctx, "/v3/lease/revoke", map[string]any{"ID": strconv.FormatInt(int64(id), 10)}, new(pb.LeaseRevokeResponse))
		},
	}
	w.t.Cleanup(u.close)
	return u
}

func newGatewayLock(w *world, name string) contender {
	g := w.gateway()
	u := newGatewayUser(w, g)
	u.enter = func(ctx context.Context, lease clientv3.LeaseID) (*hold, error) {
		var out struct {
			Header jsonHeader `json:"header"`
			Key    []byte     `json:"key"`
		}
		err := g.call(ctx, "/v3/lock/lock", map[string]any{"name": []byte(name), "lease": strconv.FormatInt(int64(lease), 10)}, &out)
		if err != nil {
			return nil, err
		}
		return &hold{
			key: string(out.Key), lease: lease, token: out.Header.Revision,
			release: func(ctx context.Context) error {
				return g.call(ctx, "/v3/lock/unlock", map[string]any{"key": out.Key}, &struct{}{})
			},
		}, nil
	}
	return u
}

func newGatewayElection(w *world, name, value string) contender {
	g := w.gateway()
	u := newGatewayUser(w, g)
	u.enter = func(ctx context.Context, lease clientv3.LeaseID) (*hold, error) {
		var out struct {
			Header jsonHeader `json:"header"`
			Leader jsonLeader `json:"leader"`
		}
		err := g.call(ctx, "/v3/election/campaign", map[string]any{
			"name": []byte(name), "lease": strconv.FormatInt(int64(lease), 10), "value": []byte(value),
		}, &out)
		if err != nil {
			return nil, err
		}
		return &hold{
			key: string(out.Leader.Key), lease: lease, token: out.Header.Revision, order: out.Leader.Rev,
			release: func(ctx context.Context) error {
				return g.call(ctx, "/v3/election/resign", map[string]any{"leader": out.Leader}, &struct{}{})
			},
			proclaim: func(ctx context.Context, value string) error {
				return g.call(ctx, "/v3/election/proclaim", map[string]any{"leader": out.Leader, "value": []byte(value)}, &struct{}{})
			},
		}, nil
	}
	return u
}
