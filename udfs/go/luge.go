// Package luge is for functions that run inside a Luge server, written in Go.
//
// A module is a main package that exports functions of the type func() int32, each one line around a function of its own:
//
//	//go:wasmexport metadata
//	func metadata() int32 {
//		return luge.Describe(
//			luge.Procedure{Name: "greet", Description: "Greets a person"},
//			luge.Hook{Name: "check", Phase: luge.BeforeCommand, Commands: []luge.Command{luge.CommandSet}, Prefix: "name:"},
//		)
//	}
//
//	//go:wasmexport greet
//	func exportGreet() int32 { return luge.RunProcedure(greet) }
//
//	//go:wasmexport check
//	func exportCheck() int32 { return luge.RunRequestHook(check) }
//
//	func main() {}
//
// main never runs: the server initialises Go's runtime and then calls the exports. What a function does is one
// transaction. A panic ends it and undoes its writes, and its message is told to the caller; the guest's mistakes that
// the ABI lists as traps end it, too, and can't be recovered from.
//
// Go's runtime takes far longer to initialise than most functions to run, so a module should describe itself with
// [Reuse] unless it keeps what one client must not learn of another in its variables.
//
// Off WebAssembly there is no server: what asks one panics. Keep decisions in functions of their own, and test those.
package luge
