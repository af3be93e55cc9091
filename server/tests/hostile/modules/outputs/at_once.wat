;; call run: output_too_large
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 40)
  (func (export "run") (result i32)
    (call $output_write (i32.const 0) (i32.const 2097153))
    (i32.const 0)))
