package main

import "time"

// Worker processes are this program, started again with "worker" as its argument.
// They get orders as lines of JSON on standard input, and answer each with one line on
// standard output. They end when their standard input does.

// order is what a worker is told. Which fields count depends on Do.
type order struct {
	Do         string        `json:"do"` // open, run, close, hold, rest
	Contestant string        `json:"contestant,omitempty"`
	Where      servers       `json:"where,omitzero"`
	Name       string        `json:"name,omitempty"`
	Process    int           `json:"process,omitempty"`
	Callers    int           `json:"callers,omitempty"`
	OwnNames   bool          `json:"own_names,omitempty"`   // each caller its own
	OwnClients bool          `json:"own_clients,omitempty"` // each caller its own
	Work       time.Duration `json:"work,omitempty"`        // for which each hold lasts
	Patience   time.Duration `json:"patience,omitempty"`    // at most, of a wait; 0 for no end
	Visits     int           `json:"visits,omitempty"`      // attempts of a session of each second caller; 0 for no end
	Stranger   bool          `json:"stranger,omitempty"`    // the first caller uses etcd's own library; with OwnClients
	From       int64         `json:"from,omitempty"`        // on the shared clock
	Warm       time.Duration `json:"warm,omitempty"`        // before From, not counted
	Until      int64         `json:"until,omitempty"`
	File       string        `json:"file,omitempty"` // for the stays
	TTL        time.Duration `json:"ttl,omitempty"`
	Rest       string        `json:"rest,omitempty"` // what to rest with
	Watch      time.Duration `json:"watch,omitempty"`
	Detect     bool          `json:"detect,omitempty"`  // crash detection
	Honours    bool          `json:"honours,omitempty"` // requests to resign
	Profile    string        `json:"profile,omitempty"` // a file for a CPU profile of the run
}

// reply is its answer.
type reply struct {
	Error   string        `json:"error,omitempty"`
	Count   int           `json:"count,omitempty"`
	Blur    time.Duration `json:"blur,omitempty"`
	Verdict verdict       `json:"verdict,omitzero"` // with OwnNames
	Rest    resting       `json:"rest,omitzero"`
	At      int64         `json:"at,omitempty"` // on the shared clock: since when it leads
	Token   int64         `json:"token,omitempty"`
	Key     string        `json:"key,omitempty"`
	Value   string        `json:"value,omitempty"` // that a candidate proposes

	Processor time.Duration `json:"processor,omitempty"` // time used, while profiled
}

const (
	doOpen  = "open"  // a connection and the sessions for the callers
	doRun   = "run"   // lock and unlock from From until Until
	doClose = "close" // the sessions and the connection
	doHold  = "hold"  // open, lock, and hold until killed
	doRest  = "rest"  // see local.Queue.rest

	// See elections.go.
	doStand  = "stand"  // open, and be a candidate
	doLead   = "lead"   // wait until it leads
	doLeft   = "left"   // wait until its work has ended
	doResign = "resign" // the term, and end
)
