package lockui

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

// An action is bound to what its page of confirmation has shown: the facts of a plan, by which the
// consequence was told. The address of its form has them, and the action compares them with etcd. If one
// differs, nothing is done, and the answer 409 says what has changed.

// act is how an action is confirmed and done.
type act struct {
	verb string
	plan func(h *Handler, ctx context.Context, q url.Values, name string) (*plan, error)
	do   func(h *Handler, ctx context.Context, o *order) (told string, err error)
}

// acts are all actions.
var acts = map[Action]act{
	Ask:      {"Ask", (*Handler).planAsk, (*Handler).doAsk},
	Transfer: {"Transfer", (*Handler).planTransfer, (*Handler).doTransfer},
	Evict:    {"Evict", (*Handler).planEvict, (*Handler).doEvict},
	Limit:    {"Set the limit", (*Handler).planLimit, (*Handler).doLimit},
}

// plan is the page of confirmation of an action.
type plan struct {
	Title        string
	Consequences []string
	Danger       bool
	Facts        []fact // what the page has shown, and the action is bound to
	Number       *int   // that the user chooses first; nil if there is none to choose
}

// fact is a part of the address to which the form is sent. It is no hidden field, because HTML changes
// line ends and has no bytes that are not UTF-8.
type fact struct{ Name, Value string }

// order is a confirmed action.
type order struct {
	name   string
	user   string
	reason string
	shown  int64      // the revision of the page of confirmation
	facts  url.Values // of the plan
}

// number is a fact that is a number.
func (o *order) number(name string) (int64, error) {
	n, err := strconv.ParseInt(o.facts.Get(name), 10, 64)
	if err != nil {
		return 0, &failure{http.StatusBadRequest, "The address lacks the number " + name + "."}
	}
	return n, nil
}

// conflict is the error of an action whose facts have changed.
type conflict struct{ changes []queues.Change }

func (*conflict) Error() string { return "the queue has changed" }

// actionHref is the address of the page of confirmation of an action on an entry.
func actionHref(a Action, name string, e *queues.Entry) string {
	return string(a) + "?" + url.Values{"name": {name}, "key": {e.Key}, "create": {strconv.FormatInt(e.CreateRevision, 10)}}.Encode()
}

// mayAct checks that an action is permitted, and returns the name of a query.
func (h *Handler) mayAct(a Action, q url.Values) (name string, err error) {
	if !h.cfg.allows(a) {
		return "", &failure{http.StatusForbidden, "This page does not permit the action " + string(a) + "."}
	}
	return nameIn(q, h.cfg.prefix)
}

// confirm answers with the page of confirmation of an action.
func (h *Handler) confirm(w http.ResponseWriter, r *http.Request, name Action, a act) {
	q := r.URL.Query()
	of, err := h.mayAct(name, q)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p, err := a.plan(h, ctx, q, of)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	post := url.Values{"name": {of}}
	for _, f := range p.Facts {
		post.Set(f.Name, f.Value)
	}
	h.write(w, r, http.StatusOK, "confirm", map[string]any{
		"Page": "name", "Title": p.Title, "Plan": p, "Action": name, "Verb": a.verb, "Name": of, "Href": nameRow{Name: of}.Href(),
		"Post": string(name) + "?" + post.Encode(), "Escaped": url.QueryEscape(of),
	})
}

const mostReason = 1000 // bytes

// act does a confirmed action.
func (h *Handler) act(w http.ResponseWriter, r *http.Request, name Action, a act) {
	if err := r.ParseForm(); err != nil {
		h.fail(w, r, http.StatusBadRequest, "The form cannot be read.")
		return
	}
	facts := r.URL.Query()
	of, err := h.mayAct(name, facts)
	if err != nil {
		h.refuse(w, r, statusOf(err), err.Error(), "action "+string(name))
		return
	}
	o := &order{name: of, user: userOf(r), reason: strings.TrimSpace(r.PostForm.Get("reason")), facts: facts}
	if o.shown, err = o.number("shown"); err == nil && (o.reason == "" || len(o.reason) > mostReason) {
		err = &failure{http.StatusBadRequest, "Give a reason, of at most 1000 bytes. The holder is shown it, and it is logged."}
	}
	told := ""
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), patience) // a closed browser does not leave it half done
		told, err = a.do(h, ctx, o)
		cancel()
	}
	status := statusOf(err)
	h.cfg.log.Info("action", "action", name, "name", of, "user", o.user, "reason", o.reason, "shown_revision", o.shown, "status", status,
		"remote", r.RemoteAddr, "error", err)
	data := map[string]any{"Page": "name", "Name": of, "Href": nameRow{Name: of}.Href(), "Again": string(name) + "?" + url.Values{
		"name": {of}, "key": facts["key"], "create": facts["create"],
	}.Encode()}
	var changed *conflict
	switch {
	case err == nil:
		data["Title"], data["Told"] = a.verb, told
		h.write(w, r, status, "done", data)
	case errors.As(err, &changed):
		data["Title"], data["Changes"], data["Shown"] = "Nothing was done", changed.changes, o.shown
		h.write(w, r, status, "changed", data)
	default:
		h.failed(w, r, err)
	}
}

func statusOf(err error) int {
	var f *failure
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &f):
		return f.status
	case errors.As(err, new(*conflict)):
		return http.StatusConflict
	default:
		return http.StatusBadGateway
	}
}

// read reads a queue for a plan or an action, by a request of its own.
func (h *Handler) read(ctx context.Context, name string) (*queues.Queue, int64, error) {
	q, rev, err := queues.One(ctx, h.client.KV, name)
	return &q, rev, err
}

// changedSince is the conflict with what a queue was at a revision.
func (h *Handler) changedSince(ctx context.Context, name string, shown int64) error {
	now, rev, err := h.read(ctx, name)
	if err != nil {
		return err
	}
	before, err := queues.At(ctx, h.client.KV, name, shown)
	if err != nil { // compacted: what it was is not known
		return &conflict{}
	}
	return &conflict{queues.Difference(before.Entries, now.Entries, rev)}
}

// fingerprint identifies the holders of a queue.
func fingerprint(q *queues.Queue) string {
	sum := sha256.New()
	for _, e := range q.Holders() {
		fmt.Fprintf(sum, "%q %d\n", e.Key, e.CreateRevision)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// owners are the first owners of some entries, in a sentence.
func owners(all []queues.Entry) string {
	var names []string
	for i := range all[:min(len(all), mostNames)] {
		names = append(names, person(&all[i]))
	}
	if rest := len(all) - len(names); rest > 0 {
		names = append(names, plural(rest, "other", "others"))
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// person is the process of an entry, in a sentence.
func person(e *queues.Entry) string {
	w := newWho(e)
	if w.Host == "" {
		return show(w.Name)
	}
	return fmt.Sprintf("%s (%s, pid %d)", show(w.Name), show(w.Host), w.PID)
}

// host is the name of this machine, for logs and holders.
func host() string {
	name, _ := os.Hostname()
	return name
}

// by is the user as the holder is shown it.
func by(user string) string { return user + " by etcdlock ui" }

// now is the time for others.
func now() time.Time { return time.Now().UTC() }
