package recipes

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/etcdlock/etcdlock/fence"
)

// setFenced compares strings of digits, because numbers of Lua are exact up to 2^53 only. The token
// and the value are fields of one key, so they expire and move together.
var setFenced = redis.NewScript(`
local seen = redis.call("HGET", KEYS[1], "fence")
if seen and seen > ARGV[1] then return seen end
redis.call("HSET", KEYS[1], "fence", ARGV[1], "value", ARGV[2])
return ARGV[1]
`)

// SetRedis sets a value if no newer token has set it. Redis can lose a write that it has confirmed
// when a replica takes over, and the token with it.
func SetRedis(ctx context.Context, client redis.Scripter, key, value string, token fence.Token) error {
	text, err := setFenced.Run(ctx, client, []string{key}, sortable(token), value).Text()
	if err != nil {
		return err
	}
	if seen := fromSortable(text); token.Less(seen) {
		return &fence.Stale{Resource: key, Token: token, Seen: seen}
	}
	return nil
}
