package main

import (
	"math/bits"
	"strconv"
	"strings"

	"luge"
)

// rule is how many requests fit into a window.
type rule struct {
	requests int64
	windowMs int64
}

// counts are those of one client, kept as "<window's number> <before> <current>".
type counts struct {
	window  int64
	before  int64
	current int64
}

// parseCounts reads what is kept; what is no number counts as 0.
func parseCounts(text string) counts {
	var numbers [3]int64
	for at, word := range strings.SplitN(text, " ", 4) {
		if number, valid := luge.ParseNumber(word); valid && at < len(numbers) {
			numbers[at] = number
		}
	}
	return counts{window: numbers[0], before: numbers[1], current: numbers[2]}
}

func (counts counts) String() string {
	number := func(it int64) string { return strconv.FormatInt(it, 10) }
	return number(counts.window) + " " + number(counts.before) + " " + number(counts.current)
}

// at moves on to the window of a number.
func (old counts) at(window int64) counts {
	switch window - old.window {
	case 0:
		return old
	case 1:
		return counts{window: window, before: old.current}
	}
	return counts{window: window}
}

// exceed says whether the requests within the last window fill the rule. Both sides are multiplied by the window,
// in 128 bits, so that nothing is rounded.
func (counts counts) exceed(rule rule, passedMs int64) bool {
	beforeHigh, beforeLow := bits.Mul64(uint64(counts.before), uint64(rule.windowMs-passedMs))
	currentHigh, currentLow := bits.Mul64(uint64(counts.current), uint64(rule.windowMs))
	low, carry := bits.Add64(beforeLow, currentLow, 0)
	high, _ := bits.Add64(beforeHigh, currentHigh, carry)
	ruleHigh, ruleLow := bits.Mul64(uint64(rule.requests), uint64(rule.windowMs))
	return high > ruleHigh || high == ruleHigh && low >= ruleLow
}

// waitMs is how long until one more request fits: within this window if the count of the one before fades fast
// enough, else in the next one, where this window's count is the one that fades.
func (counts counts) waitMs(rule rule, passedMs int64) int64 {
	if counts.current < rule.requests {
		return fadingMs(counts.before, rule.requests-counts.current, rule.windowMs) - passedMs
	}
	return rule.windowMs - passedMs + fadingMs(counts.current, rule.requests, rule.windowMs)
}

// fadingMs is how far into a window count requests of the window before weigh less than room requests: the smallest
// time with count * (window - time) < room * window.
func fadingMs(count, room, windowMs int64) int64 {
	if count < room {
		return 0
	}
	high, low := bits.Mul64(uint64(count-room), uint64(windowMs))
	// The quotient is below the window, so it fits.
	quotient, _ := bits.Div64(high, low, uint64(count))
	return min(int64(quotient)+1, windowMs)
}

func (rule rule) message(client string, waitMs int64) string {
	number := func(it int64) string { return strconv.FormatInt(it, 10) }
	return "more than " + number(rule.requests) + " requests in " + number(rule.windowMs) + " ms by " + client +
		", retry in " + number(waitMs) + " ms"
}
