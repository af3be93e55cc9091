;; call run: trap: abort
(module
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 65528) "\ff\ff\ff\ff")
  (func (export "run") (result i32)
    (call $abort (i32.const 65532) (i32.const 65532) (i32.const 1) (i32.const 1))
    (i32.const 0)))
