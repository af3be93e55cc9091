// The rate limiter of udfs/examples/rate-limiter, in Go: it lets each client make so many requests in a window of
// time, and no more. Settings, keys, messages and numbers are the same, and one table of cases holds both to that.
//
//	luge module push rate-limiter rate_limiter.wasm --config limit=100 --config window_ms=60000
package main

import (
	"strings"
	"time"

	"luge"
)

const prefix = "ratelimit:"

//go:wasmexport metadata
func metadata() int32 {
	return luge.Describe(
		// It keeps nothing in variables, and a fresh Go runtime costs more than a thousand calls.
		luge.Module{Description: "Limits how many requests a client makes in a window of time", Isolation: luge.Reuse},
		luge.Hook{Name: "limit", Phase: luge.BeforeCommand, Commands: luge.AllCommands,
			Description: "Counts the request, or refuses it where the client has made too many."},
		luge.Hook{Name: "guard", Phase: luge.BeforeCommand, Prefix: prefix,
			Commands:    []luge.Command{luge.CommandSet, luge.CommandDel, luge.CommandExpire},
			Description: "Keeps clients from changing their counts."},
	)
}

//go:wasmexport limit
func exportLimit() int32 { return luge.RunRequestHook(limit) }

//go:wasmexport guard
func exportGuard() int32 { return luge.RunRequestHook(guard) }

func main() {}

func limit(luge.Request) luge.Answer {
	rule := rule{requests: luge.ConfigPositive("limit", 1000), windowMs: luge.ConfigPositive("window_ms", 60_000)}
	client := client()
	key := prefix + client
	kept, _ := luge.Get(key)
	nowMs := luge.NowMillis()
	counts := parseCounts(string(kept)).at(nowMs / rule.windowMs)
	passedMs := nowMs % rule.windowMs
	if counts.exceed(rule, passedMs) {
		return luge.Block(rule.message(client, counts.waitMs(rule, passedMs)))
	}
	counts.current++
	// After two windows the counts say nothing any more.
	luge.SetFor(key, []byte(counts.String()), rule.memory())
	return luge.Continue()
}

func guard(request luge.Request) luge.Answer {
	// A push may move the hook to another prefix, whose keys are none of its business.
	if strings.HasPrefix(request.Key(), prefix) {
		return luge.Block("the counts below ratelimit: are the limiter's")
	}
	return luge.Continue()
}

// client is who asks. The name that a client gives itself is not heeded: anyone can give any.
func client() string {
	if user, found := luge.User(); found {
		return "user:" + user
	}
	if peer, found := luge.Peer(); found {
		return "peer:" + peer
	}
	return "unknown"
}

// memory is two windows, or the longest time that a duration can be.
func (rule rule) memory() time.Duration {
	const longestMs = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(rule.windowMs, longestMs/2)*2) * time.Millisecond
}
