;; call run: fuel_exhausted
;; limits: fuel 1500000
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 256)
  (func (export "run") (result i32)
    (loop $more (drop (call $random_get (i32.const 0) (i32.const 16777216))) (br $more))
    (i32.const 0)))
