package main

import (
	"math"
	"testing"
)

func TestCountsGoThereAndBack(t *testing.T) {
	for _, whole := range []counts{{}, {1, 2, 3}, {-1, 0, math.MaxInt64}} {
		if back := parseCounts(whole.String()); back != whole {
			t.Errorf("%v became %v", whole, back)
		}
	}
	for text, expected := range map[string]counts{"": {}, "x 2": {before: 2}, "1 2 3 4": {1, 2, 3}} {
		if found := parseCounts(text); found != expected {
			t.Errorf("%q is %v", text, found)
		}
	}
}

func TestCountsMoveOnWithTheWindow(t *testing.T) {
	kept := counts{window: 5, before: 1, current: 2}
	for window, expected := range map[int64]counts{5: kept, 6: {6, 2, 0}, 7: {7, 0, 0}, 4: {4, 0, 0}} {
		if found := kept.at(window); found != expected {
			t.Errorf("%d: %v", window, found)
		}
	}
}

func TestWhoWaitsAsToldIsLetThroughAndNotAMillisecondBefore(t *testing.T) {
	rule := rule{requests: 3, windowMs: 1000}
	for before := range int64(4) {
		for current := range int64(4) {
			for passedMs := int64(0); passedMs < 1000; passedMs += 37 {
				counts := counts{window: 10, before: before, current: current}
				if !counts.exceed(rule, passedMs) {
					continue
				}
				wait := counts.waitMs(rule, passedMs)
				exceedsIn := func(ms int64) bool {
					at := 10_000 + passedMs + ms
					return counts.at(at/1000).exceed(rule, at%1000)
				}
				if exceedsIn(wait) || !exceedsIn(wait-1) {
					t.Errorf("%v at %d: %d ms", counts, passedMs, wait)
				}
			}
		}
	}
}

func TestTheLargestSettingsDoNotOverflow(t *testing.T) {
	rule := rule{requests: math.MaxInt64, windowMs: math.MaxInt64}
	full := counts{before: math.MaxInt64, current: math.MaxInt64}
	if !full.exceed(rule, 0) || (counts{current: math.MaxInt64 - 1}).exceed(rule, 0) {
		t.Error("the limit is not where it should be")
	}
	if fading := fadingMs(math.MaxInt64, 1, math.MaxInt64); fading != math.MaxInt64-1+1 {
		t.Errorf("fades in %d ms", fading)
	}
	if rule.memory() <= 0 {
		t.Errorf("remembers for %v", rule.memory())
	}
}
