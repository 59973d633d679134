compile_error!("this stands in for a crate that is never built");
