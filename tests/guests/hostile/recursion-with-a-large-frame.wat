;; ends: Trap
(func $f (param v128 v128 v128 v128 v128 v128) (result i32)
  (i32.add
    (call $f (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 0))
    (i32.const 1)))
(func $attack (local v128)
  (drop (call $f (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0))))
