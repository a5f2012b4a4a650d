// R17: a view never owns.
// Instead: return the `AnyTensor`.
use tidelock::{Buffer, any::AnyView, location::Host};

pub fn view<'a>() -> AnyView<'a, Host> {
    let tensor = Buffer::<f32, Host>::zeros(4).unwrap().any_tensor(&[2, 2]).unwrap();
    tensor.view()
}

fn main() {}
