;; call run: fuel_exhausted
(module
  (import "luge_v1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $more (call $log (i32.const 2) (i32.const 0) (i32.const 65536)) (br $more))
    (i32.const 0)))
