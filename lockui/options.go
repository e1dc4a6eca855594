package lockui

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
)

// Option configures a [Handler].
type Option func(*config)

// config is what options set.
type config struct {
	prefix  string
	hosts   []string
	auth    *Auth
	actions []Action
	local   string
	log     *slog.Logger
}

// WithPrefix shows only names that begin with a prefix. The default is all names, for which the user of
// the client must be allowed to read all keys. The watch of etcd then has the events of all keys, so
// give a prefix if other data is in the same etcd.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithHosts adds names by which users reach the page, without a port. Requests with another Host header
// are refused, so that no other web site can read the page by a name of its own that leads to the same
// address. Loopback names are always accepted.
func WithHosts(hosts ...string) Option {
	return func(c *config) { c.hosts = append(c.hosts, hosts...) }
}

// WithAuth admits requests from other machines, if auth accepts them. Requests from the same machine
// then need it too.
func WithAuth(auth *Auth) Option { return func(c *config) { c.auth = auth } }

// WithActions permits actions. The default is none.
func WithActions(actions ...Action) Option {
	return func(c *config) { c.actions = append(c.actions, actions...) }
}

// WithLocalUser names the user of requests without authentication, which come from the same machine.
// Logs, holders and audits show the name. The default is "local".
func WithLocalUser(name string) Option { return func(c *config) { c.local = name } }

// WithSlog logs actions, refusals, and when etcd stops to answer. The default is slog.Default.
func WithSlog(log *slog.Logger) Option { return func(c *config) { c.log = log } }

// Action is something that the page can do.
type Action string

// The actions.
const (
	Ask      Action = "ask"      // asks the holders of a name to release it
	Transfer Action = "transfer" // asks a leader to hand over to a candidate
	Evict    Action = "evict"    // deletes the key of an entry
	Limit    Action = "limit"    // sets the limit of a semaphore
)

// actions are all actions.
var actions = []Action{Ask, Transfer, Evict, Limit}

// ParseAction returns the action of a name.
func ParseAction(name string) (Action, error) {
	if a := Action(name); slices.Contains(actions, a) {
		return a, nil
	}
	return "", fmt.Errorf("lockui: no action %q: the actions are %v", name, actions)
}

func newConfig(opts []Option) (*config, error) {
	c := &config{log: slog.Default()}
	for _, o := range opts {
		o(c)
	}
	c.local = cmp.Or(c.local, "local")
	for _, a := range c.actions {
		if _, err := ParseAction(string(a)); err != nil {
			return nil, err
		}
	}
	for i, h := range c.hosts {
		if c.hosts[i] = strings.ToLower(strings.TrimSuffix(h, ".")); h == "" || strings.ContainsAny(h, "/ *") {
			return nil, fmt.Errorf("lockui: host %q: give a name or an address without a port", h)
		}
		if _, _, err := net.SplitHostPort(h); err == nil {
			return nil, fmt.Errorf("lockui: host %q: leave out the port", h)
		}
	}
	if c.auth != nil && len(c.hosts) == 0 {
		return nil, errors.New("lockui: WithAuth needs WithHosts: name the hosts by which users reach the page")
	}
	return c, nil
}

func (c *config) allows(a Action) bool { return slices.Contains(c.actions, a) }
