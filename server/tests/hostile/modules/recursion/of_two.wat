;; call run: stack_overflow
(module
  (memory (export "memory") 1)
  (func $a (result i32) (i32.add (call $b) (i32.const 1)))
  (func $b (result i32) (i32.add (call $a) (i32.const 1)))
  (func (export "run") (result i32) (call $a)))
