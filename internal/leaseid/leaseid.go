// Package leaseid lets a client choose the ID of a lease, so that the request can be sent again: etcd
// grants an ID once, and answers a second request that the lease exists.
package leaseid

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type key struct{} // of a *clientv3.LeaseID

// Ask returns a context under which Grant asks for the lease of this ID. If the ID is
// [clientv3.NoLease], Grant chooses one and stores it in id. A client without Choose leaves the ID
// unchanged, and etcd chooses.
func Ask(ctx context.Context, id *clientv3.LeaseID) context.Context {
	return context.WithValue(ctx, key{}, id)
}

// Choose returns c with Grants that heed Ask. choose returns IDs that are not in use.
func Choose(c pb.LeaseClient, choose func() clientv3.LeaseID) pb.LeaseClient {
	return chosen{c, choose}
}

// Random returns an ID of 63 random bits.
func Random() clientv3.LeaseID {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		if id := clientv3.LeaseID(binary.BigEndian.Uint64(b[:]) >> 1); id != clientv3.NoLease {
			return id
		}
	}
}

type chosen struct {
	pb.LeaseClient
	choose func() clientv3.LeaseID
}

func (c chosen) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, opts ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	if id, ok := ctx.Value(key{}).(*clientv3.LeaseID); ok {
		if *id == clientv3.NoLease {
			*id = c.choose()
		}
		req.ID = int64(*id)
	}
	return c.LeaseClient.LeaseGrant(ctx, req, opts...)
}
