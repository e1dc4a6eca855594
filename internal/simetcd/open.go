package simetcd

// Open is what a client has open at the server.
type Open struct {
	Streams  int      // of watches and of renewals
	Renewals int      // of these, streams of renewals
	Watches  int      // on all the others
	Keys     []string // that are watched, or where a watched range begins
}

// Open counts what the client has open now.
func (c *Client) Open() (o Open) {
	c.link.locked(func() {
		o.Streams = len(c.link.streams)
		for _, st := range c.link.streams {
			if st.feed == nil {
				o.Renewals++
				continue
			}
			o.Watches += len(st.feed.watches)
			for _, w := range st.feed.watches {
				o.Keys = append(o.Keys, w.key)
			}
		}
	})
	return o
}
