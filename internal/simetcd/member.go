package simetcd

import pb "go.etcd.io/etcd/api/v3/etcdserverpb"

// A member is what a server says of itself in each answer.
type member struct {
	store   *store
	cluster uint64 // its ID
	term    uint64 // of the raft leader
}

func newMember(store *store) *member {
	return &member{store: store, cluster: 0xcdf818194e3a8c32, term: 2}
}

// header completes a reply's header as etcd does: a revision that the request has set stays.
func (m *member) header(h *pb.ResponseHeader) *pb.ResponseHeader {
	h.ClusterId, h.MemberId, h.RaftTerm = m.cluster, 0x8e9e05c52164694d, m.term
	if h.Revision == 0 {
		h.Revision = m.store.rev
	}
	return h
}

// elect is the election of another leader.
func (m *member) elect() { m.term++ }

// restore is what a restored member says: nothing of the time before, and another cluster unless that is 0.
func (m *member) restore(cluster uint64) {
	if cluster != 0 {
		m.cluster = cluster
	}
	m.term = 1 // Start elects
}
