package simetcd

// Open is what a client has open at the server.
type Open struct {
	Streams int // of watches and of renewals
	Watches int // on all those streams
}

// Open counts what the client has open now.
func (c *Client) Open() (o Open) {
	c.link.locked(func() {
		o.Streams = len(c.link.streams)
		for _, st := range c.link.streams {
			if st.feed != nil {
				o.Watches += len(st.feed.watches)
			}
		}
	})
	return o
}
