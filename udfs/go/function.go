package luge

import "errors"

// Refusal is an error of a procedure with a code and a payload of its own. Any other error refuses with the code 1
// and its text.
type Refusal struct {
	// Code is not 0.
	Code    int32
	Payload []byte
}

func (refusal *Refusal) Error() string { return "refused: " + string(refusal.Payload) }

// RunProcedure runs a procedure, which takes bytes and returns bytes. An error undoes all that it wrote.
func RunProcedure(procedure func(arguments []byte) ([]byte, error)) int32 {
	defer tellPanic()
	arguments, _ := read(rawInput)
	reply, err := procedure(arguments)
	code, output := outcome(reply, err)
	rawOutputWrite(text(output))
	return code
}

// outcome is what a procedure returns to the server, and what it writes.
func outcome(reply []byte, err error) (int32, []byte) {
	if err == nil {
		return 0, reply
	}
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) && refusal.Code != 0 {
		return refusal.Code, refusal.Payload
	}
	return 1, []byte(err.Error())
}

// Answer is what a hook decides.
type Answer struct {
	code   int32
	output string
}

// Continue goes on to the next hook, and then to the command.
func Continue() Answer { return Answer{} }

// Block refuses the request with a message.
func Block(message string) Answer { return Answer{code: 1, output: message} }

// Respond answers a get or a call in place of the command. For request hooks only.
func Respond(reply []byte) Answer { return Answer{code: 2, output: string(reply)} }

// RespondAbsent answers a get as if the key were absent. For request hooks only.
func RespondAbsent() Answer { return Answer{code: 3} }

// RunRequestHook runs a hook that stands before a command.
func RunRequestHook(hook func(Request) Answer) int32 {
	defer tellPanic()
	return hook(Request{}).give()
}

// RunResponseHook runs a hook that stands behind a command. It continues or blocks.
func RunResponseHook(hook func(Response) Answer) int32 {
	defer tellPanic()
	return hook(Response{}).give()
}

func (answer Answer) give() int32 {
	if answer.output != "" {
		rawOutputWrite(answer.output)
	}
	return answer.code
}

// tellPanic logs what a panic says, so that the caller is told, and lets it end the call.
func tellPanic() {
	if cause := recover(); cause != nil {
		Log(Error, reason(cause))
		panic(cause)
	}
}

func reason(cause any) string {
	switch cause := cause.(type) {
	case string:
		return cause
	case error:
		return cause.Error()
	}
	return "a panic"
}
