package main

// event is a line of JSON that a client process writes about what it did or saw. The
// lines of all clients, with what the runner did to them, are the history of a run.
type event struct {
	What   what    `json:"what"`
	At     instant `json:"at"`
	Call   instant `json:"call,omitempty"` // when the call was made that has now returned
	Name   string  `json:"name,omitempty"`
	Seq    int     `json:"seq,omitempty"` // of the attempt in its process
	Weight int     `json:"weight,omitempty"`
	Token  int64   `json:"token,omitempty"`
	Key    string  `json:"key,omitempty"`
	Kept   bool    `json:"kept,omitempty"`
	Late   string  `json:"late,omitempty"` // what became of the write after the loss
	Error  string  `json:"error,omitempty"`

	// Put in by the runner.
	Client string `json:"client"`
}

type what string

// What a client tells.
const (
	isUp     what = "up"       // has a session
	isHeld   what = "held"     // acquire returned: from At on it believes that it holds
	isKept   what = "kept"     // holds until it is told to go on
	isFailed what = "failed"   // acquire returned an error
	isOver   what = "over"     // stopped to believe, of its own will: it releases now
	isLost   what = "lost"     // stopped to believe, because it was told so
	isFreed  what = "released" // release returned
	isIdle   what = "idle"     // has nothing, wants nothing, but has its session
	isClosed what = "closed"   // has closed its session
)

// What the runner did to a client.
const (
	wasKilled  what = "killed"
	wasStopped what = "stopped"
	wasResumed what = "resumed"
	wasCut     what = "struck" // any fault on it or its links began
	wasHealed  what = "healed"
)
